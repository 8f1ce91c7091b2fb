#include "tools/bench/report.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "proto/wire/json.h"

enum { LINE_BYTES_MAX = 4096 };
static const stet_mp_limits LIMITS = {.depth_max = 2, .nodes_max = 256};

/* What was measured, as against what came out. */
static bool is_label(stet_str name) {
    static const char *const labels[] = {"figure",      "window",     "clients", "payloadBytes",
                                         "subscribers", "eventBytes", "process", "queued"};
    for (size_t i = 0; i < COUNT_OF(labels); i++)
        if (stet_str_is(name, labels[i]))
            return true;
    return false;
}

stet_code bench_report_compare(bench_report *self, const char *file, stet_error *e) {
    FILE *in = fopen(file, "re");
    if (!in)
        return stet_error_set(e, STET_INVALID, "%s cannot be read: %s", file, strerror(errno));
    char line[LINE_BYTES_MAX];
    while (fgets(line, sizeof line, in) != NULL) {
        CLEANUP(stet_buf_done) stet_buf figure = STET_BUF(LINE_BYTES_MAX);
        if (stet_json_to_mp(stet_str_of(line), LIMITS, &figure, NULL) != STET_OK)
            continue; /* what else a terminal may have shown */
        if (stet_mp_get_str(stet_buf_str(&figure), "figure", STET_STR("")).size > 0)
            stet_buf_append_str(&self->saved, stet_buf_str(&figure));
    }
    (void)fclose(in);
    if (self->saved.size == 0 || !stet_buf_ok(&self->saved))
        return stet_error_set(e, STET_INVALID, "%s holds no figures: save what stet-bench prints", file);
    return STET_OK;
}

void bench_report_done(bench_report *self) {
    stet_buf_done(&self->saved);
}

static bool same_labels(stet_str a, stet_str b) {
    stet_mp_reader r = stet_mp_reader_of(a);
    for (uint32_t pairs = stet_mp_read_map(&r); pairs > 0; pairs--) {
        char name[64] = "";
        stet_str key = stet_mp_read_str(&r), value = stet_mp_read_raw(&r);
        if (r.failed || key.size >= sizeof name)
            return false;
        memcpy(name, key.data, key.size);
        if (is_label(key) && !stet_str_equal(stet_mp_get_raw(b, name), value))
            return false;
    }
    return true;
}

static void append_label(stet_buf *out, stet_str name, stet_str value) {
    stet_buf_printf(out, ",");
    stet_json_quote(out, name);
    stet_buf_append_byte(out, ':');
    if (stet_mp_to_json(value, (stet_json_style){.indent = 0}, out, NULL) != STET_OK)
        stet_buf_append_str(out, STET_STR("null"));
}

static void print_ratios(stet_str now, stet_str then) {
    CLEANUP(stet_buf_done) stet_buf out = STET_BUF(LINE_BYTES_MAX);
    stet_str figure = stet_mp_get_str(now, "figure", STET_STR(""));
    stet_buf_append_str(&out, STET_STR("{\"ratioOf\":"));
    stet_json_quote(&out, figure);
    stet_mp_reader r = stet_mp_reader_of(now);
    for (uint32_t pairs = stet_mp_read_map(&r); pairs > 0; pairs--) {
        char name[64] = "";
        stet_str key = stet_mp_read_str(&r), value = stet_mp_read_raw(&r);
        if (r.failed || key.size >= sizeof name || stet_str_is(key, "figure"))
            continue;
        memcpy(name, key.data, key.size);
        double before = stet_mp_get_double(then, name, 0);
        if (is_label(key))
            append_label(&out, key, value);
        else if (before > 0)
            stet_buf_printf(&out, ",\"%s\":%.3f", name, stet_mp_get_double(now, name, 0) / before);
    }
    (void)printf("%.*s}\n", STET_STR_ARG(stet_buf_str(&out)));
}

static void compare(const bench_report *self, const char *line) {
    CLEANUP(stet_buf_done) stet_buf figure = STET_BUF(LINE_BYTES_MAX);
    if (stet_json_to_mp(stet_str_of(line), LIMITS, &figure, NULL) != STET_OK)
        return;
    stet_mp_reader r = stet_mp_reader_of(stet_buf_str(&self->saved));
    while (r.at != r.end && !r.failed) {
        stet_str then = stet_mp_read_raw(&r);
        if (r.failed || !same_labels(stet_buf_str(&figure), then))
            continue;
        print_ratios(stet_buf_str(&figure), then);
        return;
    }
}

void bench_report_figure(const bench_report *self, const char *format, ...) {
    char line[LINE_BYTES_MAX];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    (void)printf("%s\n", line);
    if (self->saved.size > 0)
        compare(self, line);
    (void)fflush(stdout);
}
