/* stet-drafter: the drafter as a process. */
#include "actors/drafter/drafter.h"

int main(int argc, char **argv) {
    return stet_actor_main(&drafter_service, argc, argv);
}
