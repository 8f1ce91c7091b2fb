/* Each request that changed something is remembered by its id, with a hash of what was asked and the answer
 * given, in the same commit as the change. So a repeat within actor.duplicatesKeep is answered from here and
 * has no effect. */
#include "actors/runtime/records.h"
#include "proto/base/plant.h"

#include <xxhash.h>

/* Not against forgery: who could make two requests with one hash only fools himself, with an id of his own.
 * The command goes in as the seed. */
void stet_duplicates_hash(stet_str command, stet_str body, uint8_t ret_hash[DUPLICATES_HASH_BYTES]) {
    XXH64_hash_t seed = XXH3_64bits(command.data, command.size);
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_withSeed(body.data, body.size, seed));
    _Static_assert(sizeof canonical.digest == DUPLICATES_HASH_BYTES, "a hash is stored whole");
    memcpy(ret_hash, canonical.digest, DUPLICATES_HASH_BYTES);
}

bool stet_duplicates_decode(stet_str value, stet_duplicate *ret) {
    stet_mp_reader r;
    if (!stet_turn_row_open(value, 4, &r))
        return false;
    stet_str hash = stet_mp_read_bin(&r);
    ret->answered_ms = stet_mp_read_int(&r);
    ret->answer = stet_mp_read_bin(&r);
    if (r.failed || hash.size != DUPLICATES_HASH_BYTES)
        return false;
    memcpy(ret->hash, hash.data, sizeof(ret->hash));
    return true;
}

static stet_key duplicate_key(stet_id id) {
    stet_key key = stet_key_of(STET_TABLE_DUPLICATES);
    stet_key_id(&key, id);
    return key;
}

stet_code stet_duplicates_begin(stet_turn *turn, stet_error *e) {
    stet_key prefix = stet_key_of(STET_TABLE_DUPLICATES);
    CLEANUP(stet_scan_done)
    stet_scan *scan =
        stet_turn_scan(turn, stet_key_bytes(&prefix), (stet_str){NULL, 0}, /* reverse= */ true, e);
    if (!scan)
        return STET_BUSY;
    stet_str key, value;
    stet_id largest = {{0}};
    if (stet_scan_next(scan, &key, &value)) {
        uint8_t table;
        stet_key_reader r = stet_key_reader_of(key, &table);
        largest = stet_key_read_id(&r);
        if (r.failed)
            return stet_turn_row_damaged(e, "duplicates");
    }
    if (!PLANT(recent_ids_begin_empty))
        stet_recent_ids_begin(&turn->recent, largest);
    return stet_scan_status(scan, e);
}

stet_code stet_duplicates_find(stet_turn *turn, stet_id id, stet_duplicate *ret, bool *ret_known,
                               stet_error *e) {
    *ret_known = false;
    if (stet_recent_ids_is_new(&turn->recent, id))
        return STET_OK;
    stet_key key = duplicate_key(id);
    stet_str value;
    stet_code rc = stet_turn_row_find(turn, &key, &value, ret_known, e);
    if (*ret_known && !stet_duplicates_decode(value, ret))
        rc = stet_turn_row_damaged(e, "duplicates");
    return rc;
}

void stet_duplicates_put(stet_turn *turn, stet_id id, const uint8_t hash[DUPLICATES_HASH_BYTES],
                         stet_str answer) {
    stet_recent_ids_add(&turn->recent, id);
    stet_key key = duplicate_key(id);
    stet_buf *row = stet_turn_row_new(turn, 4);
    stet_mp_bin(row, hash, DUPLICATES_HASH_BYTES);
    stet_mp_int(row, turn->wall_ms);
    stet_mp_bin(row, answer.data, answer.size);
    stet_turn_row_put(turn, &key);
}
