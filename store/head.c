#include "store/head.h"
#include "proto/wire/mp.h"
#include "store/store.h"

enum { ARENA_BYTES = 1 << 20 };

static stet_code load_number(stet_head_get get, void *from, stet_arena *arena, stet_str key,
                             bool *ret_present, uint64_t *ret, stet_error *e) {
    stet_str value;
    stet_code rc = get(from, key, arena, &value, e);
    *ret_present = rc == STET_OK;
    *ret = 0;
    if (rc == STET_NOT_FOUND)
        return STET_OK;
    if (rc != STET_OK)
        return rc;
    stet_mp_reader r = stet_mp_reader_of(value);
    *ret = stet_mp_read_uint(&r); /* what is no number reads as 0, which is no format and no epoch */
    return STET_OK;
}

static stet_code check(const stet_head *head, uint32_t partition, const char *directory, stet_error *e) {
    if (head->record.partition != partition)
        return stet_error_set(e, STET_INVALID,
                              "%s holds partition %u, not %u: correct the directory or the partition",
                              directory, head->record.partition, partition);
    if (head->record.epoch != head->epoch)
        return stet_error_set(
            e, STET_INTERNAL, "%s: epoch %llu, but its last commit has %llu: damaged, restore a backup",
            directory, (unsigned long long)head->epoch, (unsigned long long)head->record.epoch);
    return STET_OK;
}

static stet_code load(stet_head_get get, void *from, stet_arena *arena, uint32_t partition,
                      const char *directory, stet_head *ret, stet_error *e) {
    stet_head head = {.present = false};
    uint64_t format;
    bool has_format, has_epoch;
    stet_code rc = load_number(get, from, arena, stet_store_key_format, &has_format, &format, e);
    if (rc != STET_OK)
        return rc;
    /* Before anything else is looked at: what the other rows mean depends on it. A step from an older format
     * stands here, as a commit of its own, so that it can be cut at any point and run again. There is one
     * format so far. */
    if (has_format && format != STET_STORE_FORMAT)
        return stet_error_set(
            e, STET_INVALID,
            "%s has store format %llu, this program knows %u: start the version of Stet that wrote it",
            directory, (unsigned long long)format, STET_STORE_FORMAT);
    rc = load_number(get, from, arena, stet_store_key_epoch, &has_epoch, &head.epoch, e);
    if (rc != STET_OK)
        return rc;
    stet_str value;
    rc = get(from, stet_store_key_head, arena, &value, e);
    if (rc != STET_OK && rc != STET_NOT_FOUND)
        return rc;
    head.present = rc == STET_OK;
    if (head.present != has_format || head.present != has_epoch)
        return stet_error_set(e, STET_INTERNAL,
                              "%s: format, epoch and head are not all there: restore a backup", directory);
    if (head.present) {
        rc = stet_commit_record_decode(value, &head.record, e);
        if (rc == STET_OK)
            rc = check(&head, partition, directory, e);
        if (rc != STET_OK)
            return rc;
        head.hash = stet_commit_record_hash(&head.record);
    }
    *ret = head;
    return STET_OK;
}

stet_code stet_head_load(stet_head_get get, void *from, uint32_t partition, const char *directory,
                         stet_head *ret, stet_error *e) {
    stet_arena arena = stet_arena_of(ARENA_BYTES);
    stet_code rc = load(get, from, &arena, partition, directory, ret, e);
    stet_arena_done(&arena);
    return rc;
}
