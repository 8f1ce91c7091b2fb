/* stet-sim - runs seeds of the simulation. Prints each violation with what replays it, and one line of
 * figures. */
#include "tests/sim/plants.h"
#include "tests/sim/sim.h"

#include <getopt.h>
#include <stdlib.h>
#include <time.h>

typedef struct arguments {
    uint64_t seed, count;
    double seconds;
    int profile;
    const char *trace;
    const char *plant;
    uint32_t twice; /* every n-th seed is run twice, and has to be the same; 0: none */
    bool faults;    /* print how often each happened */
} arguments;

static const char usage[] =
    "usage: stet-sim [--seed N] [--count N] [--seconds S] [--profile safety|liveness] [--trace FILE] "
    "[--twice N]\n"
    "                [--faults] [--plant NAME|all]\n"
    "  --seed N      the first seed, default 1\n"
    "  --count N     how many, default 1\n"
    "  --seconds S   stop after so many seconds, whatever is left\n"
    "  --profile P   safety: faults until the end; liveness: faults stop, everything has to come to rest.\n"
    "                Default: each seed chooses\n"
    "  --trace FILE  write every event of the run\n"
    "  --twice N     run every N-th seed twice and compare\n"
    "  --faults      say how often each fault happened\n"
    "  --plant NAME  switch a planted bug on (stet-sim-plants only); all: each in turn has to be found\n";

static double now(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int refuse(const char *why, const char *what) {
    (void)fprintf(stderr, "stet-sim: %s %s\n%s", why, what, usage);
    return 2;
}

static bool parse(arguments *a, int argc, char **argv) {
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'},    {"count", required_argument, NULL, 'c'},
        {"seconds", required_argument, NULL, 't'}, {"profile", required_argument, NULL, 'p'},
        {"trace", required_argument, NULL, 'f'},   {"plant", required_argument, NULL, 'b'},
        {"twice", required_argument, NULL, '2'},   {"faults", no_argument, NULL, 'F'},
        {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0}};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 's':
            a->seed = strtoull(optarg, NULL, 0);
            break;
        case 'c':
            a->count = strtoull(optarg, NULL, 0);
            break;
        case 't':
            a->seconds = strtod(optarg, NULL);
            break;
        case 'p':
            if (strcmp(optarg, "safety") != 0 && strcmp(optarg, "liveness") != 0)
                return false;
            a->profile = optarg[0] == 's' ? SIM_SAFETY : SIM_LIVENESS;
            break;
        case 'f':
            a->trace = optarg;
            break;
        case 'b':
            a->plant = optarg;
            break;
        case '2':
            a->twice = (uint32_t)strtoul(optarg, NULL, 0);
            break;
        case 'F':
            a->faults = true;
            break;
        default:
            return false;
        }
    }
    return optind == argc;
}

/* ---- one seed ---- */

static void show_violation(sim *s, const sim_options *options) {
    sim_options again = *options;
    again.telling = true;
    (void)sim_run(s, &again);
    const world *w = &s->world;
    uint64_t first = w->lines_count > WORLD_LAST_LINES ? w->lines_count - WORLD_LAST_LINES : 0;
    (void)printf("\nVIOLATION in seed %llu at %lld.%03lld\n  %s\n  the last lines of the trace:\n",
                 (unsigned long long)options->seed, (long long)(w->failed_ms / 1000),
                 (long long)(w->failed_ms % 1000), w->violation);
    for (uint64_t i = first; i < w->lines_count; i++)
        (void)printf("    %s\n", w->lines[i % WORLD_LAST_LINES]);
    (void)printf("  again: stet-sim --seed %llu%s%s --trace /tmp/trace\n", (unsigned long long)options->seed,
                 options->profile < 0 ? "" : " --profile ",
                 options->profile < 0             ? ""
                 : options->profile == SIM_SAFETY ? "safety"
                                                  : "liveness");
}

/* False: a violation, or two runs of one seed that differ. */
static bool run_seed(sim *s, const arguments *a, uint64_t seed, FILE *trace) {
    sim_options options = {.seed = seed, .profile = a->profile, .telling = trace != NULL, .trace = trace};
    bool good = sim_run(s, &options);
    uint64_t hash = s->world.hash;
    if (a->count == 1)
        (void)printf("seed %llu: trace %016llx\n", (unsigned long long)seed, (unsigned long long)hash);
    if (good && a->twice > 0 && seed % a->twice == 0) {
        options.trace = NULL;
        (void)sim_run(s, &options);
        if (s->world.hash != hash) {
            (void)printf("seed %llu ran twice and differed: %016llx and %016llx\n", (unsigned long long)seed,
                         (unsigned long long)hash, (unsigned long long)s->world.hash);
            s->totals.violations++;
            return false;
        }
    }
    if (!good) {
        options.trace = NULL;
        show_violation(s, &options);
        s->totals.violations--; /* the same one, shown */
        s->totals.seeds--;
    }
    return good;
}

static void print_totals(const sim_totals *t, double seconds, bool faults) {
    (void)printf(
        "%llu seeds, %llu violations, %.1f simulated hours in %.1f s; %llu requests (%llu answered, %llu "
        "refused, "
        "%llu without answer), %llu calls, %llu events read, %llu messages taken, %llu packets, %llu "
        "commits, "
        "%llu actor starts\n",
        (unsigned long long)t->seeds, (unsigned long long)t->violations, (double)t->simulated_ms / 3.6e6,
        seconds, (unsigned long long)t->requests, (unsigned long long)t->answers,
        (unsigned long long)t->refusals, (unsigned long long)t->unknown, (unsigned long long)t->effects,
        (unsigned long long)t->events_seen, (unsigned long long)t->taken, (unsigned long long)t->messages,
        (unsigned long long)t->commits, (unsigned long long)t->starts);
    if (faults)
        (void)printf("  at rest after the last fault at most %lld s, after more than 30 s in %llu seeds\n",
                     (long long)(t->rest_ms_max / 1000), (unsigned long long)t->rests_late);
    for (int i = 0; faults && i < FAULTS_COUNT; i++)
        (void)printf("  %-26s %llu\n", fault_name((sim_fault)i), (unsigned long long)t->faults[i]);
}

int main(int argc, char **argv) {
    arguments a = {.seed = 1, .count = 1, .profile = -1};
    if (!parse(&a, argc, argv))
        return refuse("cannot read", "the arguments");
    (void)clearenv(); /* no setting may come from outside */
    if (a.plant)
        return plants_run(a.plant, a.seed, a.count);
    FILE *trace = a.trace ? fopen(a.trace, "we") : NULL;
    if (a.trace && !trace)
        return refuse("cannot write", a.trace);
    sim *s = sim_new();
    double start = now();
    bool good = true;
    for (uint64_t i = 0; i < a.count && (a.seconds <= 0 || now() - start < a.seconds); i++)
        good = run_seed(s, &a, a.seed + i, trace) && good;
    print_totals(&s->totals, now() - start, a.faults);
    if (trace)
        (void)fclose(trace);
    (void)sim_free(s);
    return good ? 0 : 1;
}
