#include "actors/probe/probe.h"

int main(int argc, char **argv) {
    return stet_actor_main(&probe_service, argc, argv);
}
