#include "store/rocks.h"

#include <rocksdb/c.h>
#include <stdlib.h>

enum {
    /* One that fills and one that is written out: fewer and larger ones make fewer and larger tables, which cost
     * less compaction. A stream of 1 KiB rows fills one in several times what writing it out takes. */
    WRITE_BUFFERS = 2,
    CACHE_BYTES_MIN = 2 << 20,
    WRITE_BUFFER_BYTES_MIN = 1 << 20,
    OPEN_FILES_MAX = 128,
    /* The head row, first of all keys, is in every file of level 0, so that each overlaps all of level 1:
     * fewer and larger compactions. Eight instead of four took 15-20 % of the CPU off a stream of 1 KiB rows.
     */
    LEVEL0_FILES = 8,
    READAHEAD_BYTES = 256 << 10, /* of a compaction: else each block is a system call */
    SYNC_BYTES =
        1 << 20, /* tables go to the disk little by little, not in one burst beside a commit's sync */
    LEVELS = 7,
    /* Of tables. Debian builds RocksDB for processors without the instruction for its default, CRC-32C. */
    CHECKSUM_XXH3 = 4,
    LEVELS_PLAIN = 3, /* not compressed: what a queue's rows live and die in */
    INFO_LOG_BYTES_MAX = 1 << 20,
    INFO_LOGS_MAX = 2,
    BLOOM_BITS = 10
};

struct stet_rocks {
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_readoptions_t *read;
    rocksdb_writeoptions_t *write;
    rocksdb_cache_t *cache;
    bool read_only;
};

typedef struct rocks_iter {
    stet_engine_iter base;
    rocksdb_iterator_t *iterator;
    rocksdb_readoptions_t *read; /* refers to the bounds below */
    size_t lower_size, upper_size;
    uint8_t lower[STET_BOUND_BYTES_MAX], upper[STET_BOUND_BYTES_MAX];
} rocks_iter;

/* errno's words for what stet_code_of_disk calls STET_UNAVAILABLE: RocksDB gives no more. */
static bool lacks_room(const char *error) {
    static const char *const words[] = {"No space left on device", "Disk quota exceeded",
                                        "Read-only file system"};
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        if (strstr(error, words[i]))
            return true;
    }
    return false;
}

static bool begins_with(const char *text, const char *start) {
    return strncmp(text, start, strlen(start)) == 0;
}

/* The one place where RocksDB's errors end. NULL is success. */
static stet_code check(char *error, const char *doing, stet_error *e) {
    if (!error)
        return STET_OK;
    stet_code code = STET_INTERNAL;
    const char *advice = "end the process and open the store again";
    if (lacks_room(error)) {
        code = STET_UNAVAILABLE;
        advice = "make room on the disk, or make it writable";
    } else if (strstr(error, "While lock file") || strstr(error, "lock hold by current process")) {
        code = STET_CONFLICT;
        advice = "another process has the store open: stop it first";
    } else if (begins_with(error, "IO error") && !strstr(error, "No such file")) {
        code = STET_BUSY; /* the disk failed; of the data nothing is known to be wrong */
    }
    stet_error_set(e, code, "%s: %.150s; %s", doing, error, advice);
    rocksdb_free(error);
    return code;
}

static uint64_t at_least(uint64_t n, uint64_t least) {
    return n > least ? n : least;
}

/* One setting bounds the memory: three quarters for the write buffers, the rest for blocks (index and filter
 * blocks included). */
static uint64_t write_buffer_bytes(uint64_t memory_bytes) {
    return at_least(memory_bytes / 4 * 3 / WRITE_BUFFERS, WRITE_BUFFER_BYTES_MIN);
}

uint64_t stet_rocks_headroom(uint64_t memory_bytes) {
    return 2 * write_buffer_bytes(memory_bytes);
}

static void set_table_options(stet_rocks *self, uint64_t cache_bytes) {
    rocksdb_lru_cache_options_t *cache = rocksdb_lru_cache_options_create();
    rocksdb_lru_cache_options_set_capacity(cache, cache_bytes);
    /* Undivided: one thread reads, and parts of a small cache are too small. */
    rocksdb_lru_cache_options_set_num_shard_bits(cache, 0);
    self->cache = rocksdb_cache_create_lru_opts(cache);
    rocksdb_lru_cache_options_destroy(cache);
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_block_cache(table, self->cache);
    rocksdb_block_based_options_set_block_size(table, 16 << 10);
    rocksdb_block_based_options_set_format_version(table,
                                                   5); /* fixed: an upgrade must not change files unasked */
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1);
    rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(table, 1);
    /* In small parts: of a million jobs the whole filters and indexes are larger than the cache. */
    rocksdb_block_based_options_set_index_type(table,
                                               rocksdb_block_based_table_index_type_two_level_index_search);
    rocksdb_block_based_options_set_partition_filters(table, 1);
    rocksdb_block_based_options_set_pin_top_level_index_and_filter(table, 1);
    rocksdb_block_based_options_set_checksum(table, CHECKSUM_XXH3);
    rocksdb_block_based_options_set_filter_policy(table, rocksdb_filterpolicy_create_bloom_full(BLOOM_BITS));
    rocksdb_options_set_block_based_table_factory(self->options, table);
    rocksdb_block_based_options_destroy(table);
}

static void set_options(stet_rocks *self, const stet_rocks_options *from) {
    rocksdb_options_t *o = self->options;
    uint64_t buffer = write_buffer_bytes(from->memory_bytes);
    uint64_t buffers = WRITE_BUFFERS * buffer;
    uint64_t cache = from->memory_bytes > buffers ? from->memory_bytes - buffers : 0;
    rocksdb_options_set_create_if_missing(o, from->create);
    rocksdb_options_set_paranoid_checks(o, 1);
    rocksdb_options_set_wal_recovery_mode(o, (int)from->recovery);
    rocksdb_options_set_write_buffer_size(o, buffer);
    rocksdb_options_set_max_write_buffer_number(o, WRITE_BUFFERS);
    rocksdb_options_set_max_total_wal_size(o, 2 * buffers);
    rocksdb_options_set_max_bytes_for_level_base(o, 8 * buffer);
    rocksdb_options_set_target_file_size_base(o, 2 * buffer);
    rocksdb_options_set_level0_file_num_compaction_trigger(o, LEVEL0_FILES);
    rocksdb_options_set_max_background_jobs(o, 2);
    rocksdb_options_compaction_readahead_size(o, READAHEAD_BYTES);
    rocksdb_options_set_bytes_per_sync(o, SYNC_BYTES);
    rocksdb_options_set_max_open_files(o, OPEN_FILES_MAX);
    rocksdb_options_set_skip_stats_update_on_db_open(o, 1);
    int levels[LEVELS];
    for (int i = 0; i < LEVELS; i++)
        levels[i] = i < LEVELS_PLAIN ? rocksdb_no_compression : rocksdb_lz4_compression;
    rocksdb_options_set_compression_per_level(o, levels, LEVELS);
    rocksdb_options_set_stats_dump_period_sec(o, 0);
    rocksdb_options_set_stats_persist_period_sec(o, 0);
    rocksdb_options_set_keep_log_file_num(o, INFO_LOGS_MAX);
    rocksdb_options_set_max_log_file_size(o, INFO_LOG_BYTES_MAX);
    rocksdb_options_set_max_manifest_file_size(o, 16 << 20);
    if (from->log_directory)
        rocksdb_options_set_db_log_dir(o, from->log_directory);
    set_table_options(self, at_least(cache, CACHE_BYTES_MIN));
}

/* No setter in C reaches these. A background error is final: RocksDB healing itself would leave a hole where
 * the failed write was. Opening should not need 4 MiB for a manifest of a few hundred bytes. A log that is still
 * needed when there are newer ones and that was cut or removed would be missed by nobody, so the manifest knows each. And most reads
 * ask for what is not there (a new request's duplicate, a new key's counts): a filter over the write buffer
 * answers them without walking its skip list. */
static stet_code set_more_options(stet_rocks *self, stet_error *e) {
    rocksdb_options_t *more = rocksdb_options_create();
    char *error = NULL;
    rocksdb_get_options_from_string(self->options,
                                    "max_bgerror_resume_count=0;manifest_preallocation_size=65536;"
                                    "track_and_verify_wals_in_manifest=true;"
                                    "memtable_whole_key_filtering=true;memtable_prefix_bloom_size_ratio=0.02",
                                    more, &error);
    rocksdb_options_destroy(self->options);
    self->options = more;
    return check(error, "the options of the database", e);
}

static stet_code check_families(const stet_rocks *self, const char *db, bool *ret_corrupt, stet_error *e) {
    char *error = NULL;
    size_t count = 0;
    char **names = rocksdb_list_column_families(self->options, db, &count, &error);
    if (error) {
        rocksdb_list_column_families_destroy(names, count); /* an empty list is one, too */
        *ret_corrupt = begins_with(error, "Corruption");
        return check(error, "listing the column families", e);
    }
    stet_code rc = STET_OK;
    if (count != 1 || strcmp(names[0], "default") != 0)
        rc = stet_error_set(
            e, STET_INVALID,
            "%s has %zu column families, this program knows one: start the version that wrote it", db, count);
    rocksdb_list_column_families_destroy(names, count);
    return rc;
}

static stet_code open_database(stet_rocks *self, const stet_rocks_options *options, bool *ret_corrupt,
                               stet_error *e) {
    set_options(self, options);
    stet_code rc = set_more_options(self, e);
    if (rc == STET_OK && !options->create)
        rc = check_families(self, options->db, ret_corrupt, e);
    if (rc != STET_OK)
        return rc;
    char *error = NULL;
    if (options->read_only)
        self->db =
            rocksdb_open_for_read_only(self->options, options->db, /* error_if_wal_file_exists= */ 0, &error);
    else
        self->db = rocksdb_open(self->options, options->db, &error);
    *ret_corrupt = error && begins_with(error, "Corruption");
    return check(error, "opening the database", e);
}

stet_code stet_rocks_open(const stet_rocks_options *options, stet_rocks **ret, bool *ret_corrupt,
                          stet_error *e) {
    *ret_corrupt = false;
    stet_rocks *self = calloc(1, sizeof *self);
    if (!self)
        return stet_error_set(e, STET_BUSY, "out of memory for the store");
    stet_rocks_thread_begins();
    self->read_only = options->read_only;
    self->options = rocksdb_options_create();
    self->read = rocksdb_readoptions_create();
    self->write = rocksdb_writeoptions_create();
    rocksdb_writeoptions_set_sync(self->write, !options->no_sync);
    stet_code rc = open_database(self, options, ret_corrupt, e);
    if (rc != STET_OK)
        (void)stet_rocks_close(self);
    else
        *ret = self;
    return rc;
}

void stet_rocks_thread_begins(void) {
    rocksdb_set_perf_level(rocksdb_disable);
}

stet_rocks *stet_rocks_close(stet_rocks *self) {
    if (!self)
        return NULL;
    if (self->db)
        rocksdb_close(self->db);
    rocksdb_writeoptions_destroy(self->write);
    rocksdb_readoptions_destroy(self->read);
    rocksdb_options_destroy(self->options);
    if (self->cache)
        rocksdb_cache_destroy(self->cache);
    free(self);
    return NULL;
}

stet_code stet_rocks_get(void *from, stet_str key, stet_arena *into, stet_str *ret, stet_error *e) {
    stet_rocks *self = from;
    char *error = NULL;
    rocksdb_pinnableslice_t *pinned = rocksdb_get_pinned(self->db, self->read, key.data, key.size, &error);
    if (error)
        return check(error, "reading a row", e);
    if (!pinned)
        return STET_NOT_FOUND;
    size_t size;
    const char *data = rocksdb_pinnableslice_value(pinned, &size);
    stet_str copy = stet_arena_copy(into, stet_str_from(data, size));
    rocksdb_pinnableslice_destroy(pinned);
    if (!copy.data)
        return stet_error_set(e, STET_BUSY, "out of memory for a value that was read");
    *ret = copy;
    return STET_OK;
}

stet_code stet_rocks_write(stet_rocks *self, stet_str batch, stet_error *e) {
    ASSERT(!self->read_only);
    char *error = NULL;
    rocksdb_writebatch_t *write = rocksdb_writebatch_create_from(batch.data, batch.size);
    rocksdb_write(self->db, self->write, write, &error);
    rocksdb_writebatch_destroy(write);
    return check(error, "writing a commit", e);
}

static bool iter_row(rocks_iter *self, stet_str *ret_key, stet_str *ret_value) {
    if (!rocksdb_iter_valid(self->iterator))
        return false;
    ret_key->data = rocksdb_iter_key(self->iterator, &ret_key->size);
    ret_value->data = rocksdb_iter_value(self->iterator, &ret_value->size);
    return true;
}

static bool rocks_seek(stet_engine_iter *base, stet_str key, bool reverse, stet_str *ret_key,
                       stet_str *ret_value) {
    rocks_iter *self = (rocks_iter *)base;
    if (key.size > 0 && reverse)
        rocksdb_iter_seek_for_prev(self->iterator, key.data, key.size);
    else if (key.size > 0)
        rocksdb_iter_seek(self->iterator, key.data, key.size);
    else if (reverse)
        rocksdb_iter_seek_to_last(self->iterator);
    else
        rocksdb_iter_seek_to_first(self->iterator);
    return iter_row(self, ret_key, ret_value);
}

static bool rocks_step(stet_engine_iter *base, bool reverse, stet_str *ret_key, stet_str *ret_value) {
    rocks_iter *self = (rocks_iter *)base;
    if (reverse)
        rocksdb_iter_prev(self->iterator);
    else
        rocksdb_iter_next(self->iterator);
    return iter_row(self, ret_key, ret_value);
}

static stet_code rocks_status(const stet_engine_iter *base, stet_error *e) {
    const rocks_iter *self = (const rocks_iter *)base;
    char *error = NULL;
    rocksdb_iter_get_error(self->iterator, &error);
    return check(error, "reading rows", e);
}

static void rocks_iter_free(stet_engine_iter *base) {
    rocks_iter *self = (rocks_iter *)base;
    rocksdb_iter_destroy(self->iterator);
    rocksdb_readoptions_destroy(self->read);
    free(self);
}

static const stet_engine_iter_ops rocks_iter_ops = {
    .seek = rocks_seek, .step = rocks_step, .status = rocks_status, .free = rocks_iter_free};

stet_engine_iter *stet_rocks_iter(stet_rocks *self, stet_str lower, stet_str upper) {
    ASSERT(lower.size <= STET_BOUND_BYTES_MAX && upper.size <= STET_BOUND_BYTES_MAX);
    rocks_iter *iter = malloc(sizeof *iter);
    if (!iter)
        return NULL;
    iter->base.ops = &rocks_iter_ops;
    iter->lower_size = lower.size;
    iter->upper_size = upper.size;
    iter->read = rocksdb_readoptions_create();
    if (lower.size > 0) {
        memcpy(iter->lower, lower.data, lower.size);
        rocksdb_readoptions_set_iterate_lower_bound(iter->read, (const char *)iter->lower, iter->lower_size);
    }
    if (upper.size > 0) {
        memcpy(iter->upper, upper.data, upper.size);
        rocksdb_readoptions_set_iterate_upper_bound(iter->read, (const char *)iter->upper, iter->upper_size);
    }
    iter->iterator = rocksdb_create_iterator(self->db, iter->read);
    return &iter->base;
}

stet_code stet_rocks_checkpoint(stet_rocks *self, const char *directory, stet_error *e) {
    char *error = NULL;
    rocksdb_checkpoint_t *checkpoint = rocksdb_checkpoint_object_create(self->db, &error);
    if (error)
        return check(error, "preparing a checkpoint", e);
    /* Flushing first leaves no log to copy, so that the copy has no end that could be torn. */
    rocksdb_checkpoint_create(checkpoint, directory, /* log_size_for_flush= */ 0, &error);
    rocksdb_checkpoint_object_destroy(checkpoint);
    return check(error, "making a checkpoint", e);
}

static uint64_t property(const stet_rocks *self, const char *name) {
    uint64_t value = 0;
    return rocksdb_property_int(self->db, name, &value) == 0 ? value : 0;
}

stet_engine_stats stet_rocks_stats(stet_rocks *self) {
    return (stet_engine_stats){.memory_bytes = property(self, "rocksdb.cur-size-all-mem-tables") +
                                               rocksdb_cache_get_usage(self->cache),
                               .disk_bytes = property(self, "rocksdb.total-sst-files-size")};
}
