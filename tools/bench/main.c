#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/base/exit_codes.h"
#include "tools/bench/bench.h"

static const struct figure {
    const char *name;
    const char *help;
    stet_code (*measure)(const bench_options *options, stet_error *e);
} figures[] = {
    {"put", "durable puts acknowledged a second, by window and clients", bench_put},
    {"job", "no-op jobs a second from submit to their done event", bench_job},
    {"draft", "drafter.submit acknowledged a second", bench_draft},
    {"latency", "submit to done at 200 jobs a second", bench_latency},
    {"machine", "the floor of latency: bare wake-ups and a sync, as many as a job needs", bench_machine},
    {"fanout", "events a second to 1, 10 and 100 subscribers without loss", bench_fanout},
    {"idle", "memory and CPU of an instance that has nothing to do", bench_idle},
    {"backlog", "memory, disk, speed and start with a million queued jobs", bench_backlog},
    {"overload", "what is served when five times the capacity is offered", bench_overload},
};

static int usage(FILE *out, int status) {
    (void)fprintf(out, "stet-bench: measures an instance of its own and prints one JSON object a figure.\n\n"
                       "usage: stet-bench [OPTIONS] FIGURE...    (or: all)\n\nfigures:\n");
    for (size_t i = 0; i < COUNT_OF(figures); i++)
        (void)fprintf(out, "  %-10s %s\n", figures[i].name, figures[i].help);
    (void)fprintf(out, "\noptions:\n"
                       "  --seconds S      of each throughput figure (default 2)\n"
                       "  --directory DIR  where instances are made (default /tmp)\n"
                       "  --payload BYTES  of each request (default 1024)\n"
                       "  --backlog N      jobs of the backlog figure (default 1000000)\n"
                       "  --window N, --clients N   only these rows of a table\n"
                       "  --compare FILE   a saved run: prints this one as ratios of it, too\n"
                       "Compare with another program in the same run: machines drift.\n");
    return status;
}

static bool number(const char *text, double least, double *ret) {
    char *end;
    errno = 0;
    *ret = strtod(text, &end);
    return errno == 0 && end != text && *end == 0 && *ret >= least;
}

static bool parse(int argc, char **argv, bench_options *o, const char **ret_compare, bool *ret_help) {
    static const struct option names[] = {
        {"seconds", 1, NULL, 's'}, {"directory", 1, NULL, 'd'}, {"payload", 1, NULL, 'p'},
        {"backlog", 1, NULL, 'b'}, {"window", 1, NULL, 'w'},    {"clients", 1, NULL, 'c'},
        {"compare", 1, NULL, 'r'}, {"help", 0, NULL, 'h'},      {NULL, 0, NULL, 0}};
    for (int option; (option = getopt_long(argc, argv, "h", names, NULL)) != -1;) {
        double n = 0;
        if (option == 'h') {
            *ret_help = true;
            return true;
        }
        if (option == 'd' || option == 'r') {
            *(option == 'd' ? &o->directory : ret_compare) = optarg;
            continue;
        }
        if (option == '?' || !number(optarg, option == 's' ? 0.1 : 1, &n)) {
            if (option != '?')
                (void)fprintf(stderr, "stet-bench: \"%s\" is not a number that fits here\n", optarg);
            return false;
        }
        if (option == 's')
            o->seconds = n;
        else if (option == 'p')
            o->payload_bytes = n > 60000 ? 60000 : (uint32_t)n;
        else if (option == 'b')
            o->backlog = (uint64_t)n;
        else if (option == 'w')
            o->only_window = (uint32_t)n;
        else
            o->only_clients = (uint32_t)n;
    }
    return true;
}

static const struct figure *find(const char *name) {
    for (size_t i = 0; i < COUNT_OF(figures); i++)
        if (strcmp(figures[i].name, name) == 0)
            return &figures[i];
    return NULL;
}

static int run(const struct figure *figure, const bench_options *options) {
    stet_error e = {.message = ""};
    if (figure->measure(options, &e) == STET_OK)
        return STET_EXIT_OK;
    (void)fprintf(stderr, "stet-bench: %s: %s\n", figure->name, e.message);
    return 1;
}

int main(int argc, char **argv) {
    bench_options options = {
        .directory = "/tmp", .seconds = 2, .payload_bytes = 1024, .backlog = 1000000, .report = BENCH_REPORT};
    const char *compare = NULL;
    bool help = false;
    if (!parse(argc, argv, &options, &compare, &help))
        return usage(stderr, STET_EXIT_USAGE);
    if (help)
        return usage(stdout, STET_EXIT_OK);
    if (optind == argc)
        return usage(stderr, STET_EXIT_USAGE);
    stet_error e = {.message = ""};
    if (compare && bench_report_compare(&options.report, compare, &e) != STET_OK) {
        (void)fprintf(stderr, "stet-bench: %s\n", e.message);
        return STET_EXIT_USAGE;
    }
    int status = STET_EXIT_OK;
    for (int i = optind; i < argc && status == STET_EXIT_OK; i++) {
        const struct figure *one = find(argv[i]);
        if (!one && strcmp(argv[i], "all") != 0) {
            (void)fprintf(stderr, "stet-bench: there is no figure \"%s\"\n", argv[i]);
            return STET_EXIT_USAGE;
        }
        for (size_t k = 0; k < COUNT_OF(figures) && status == STET_EXIT_OK; k++)
            if (!one || one == &figures[k])
                status = run(&figures[k], &options);
    }
    bench_report_done(&options.report);
    return status;
}
