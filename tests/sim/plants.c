#include "tests/sim/plants.h"

#include "proto/base/plant.h"
#include "tests/sim/sim.h"

#include <sys/wait.h>
#include <unistd.h>

#ifdef STET_PLANTS

static const struct {
    const char *name, *help;
} plants[] = {
    {"none", ""},
#define X(name, help) {#name, help},
#include "proto/base/plants.def"
#undef X
};

stet_plant stet_planted;

enum { NOT_FOUND = 1 };

/* In a process of its own: some bugs end in an assertion of the product, which is a way of being found. */
static _Noreturn void hunt(stet_plant plant, uint64_t seed, uint64_t count) {
    sim *s = sim_new();
    stet_planted = plant;
    for (uint64_t i = 0; i < count; i++) {
        if (sim_run(s, &(sim_options){.seed = seed + i, .profile = -1}))
            continue;
        (void)printf("%-22s found by seed %llu, the %lluth: %s\n", plants[plant].name,
                     (unsigned long long)seed + i, (unsigned long long)i + 1, s->world.violation);
        (void)fflush(stdout);
        _exit(0);
    }
    (void)printf("%-22s NOT FOUND in %llu seeds: %s\n", plants[plant].name, (unsigned long long)count,
                 plants[plant].help);
    (void)fflush(stdout);
    _exit(NOT_FOUND);
}

static bool is_found(stet_plant plant, uint64_t seed, uint64_t count) {
    int status = 0;
    (void)fflush(stdout);
    pid_t child = fork();
    ASSERT(child >= 0);
    if (child == 0)
        hunt(plant, seed, count);
    pid_t ended = waitpid(child, &status, 0);
    ASSERT(ended == child);
    if (WIFSIGNALED(status))
        (void)printf("%-22s found: an assertion of the product ended the run\n", plants[plant].name);
    return WIFSIGNALED(status) || (WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int plants_run(const char *name, uint64_t seed, uint64_t count) {
    int found = 0, hunted = 0;
    for (int i = 1; i < STET_PLANTS_COUNT; i++) {
        if (strcmp(name, "all") != 0 && strcmp(name, plants[i].name) != 0)
            continue;
        hunted++;
        found += is_found((stet_plant)i, seed, count);
    }
    (void)printf("%d of %d planted bugs found\n", found, hunted);
    return hunted == 0 ? 2 : found == hunted ? 0 : 1;
}

#else

int plants_run(const char *name, uint64_t seed, uint64_t count) {
    (void)seed, (void)count;
    (void)fprintf(stderr,
                  "stet-sim: this build has no planted bugs, so not \"%s\" either: use stet-sim-plants\n",
                  name);
    return 2;
}

#endif
