/* transcripts - the conversation of a project, in the order it was appended. Nothing is dropped: what does
 * not fit is stored and answered with a warning.
 *
 *   duplicate_id      the id is there with other content: stored beside the first, found again by
 * drafter.check timestamp_order   older than the item before it missing_previous  previousItemId names no
 * item, or is missing on an item that is not the first
 *
 * A duplicate gets only its own warning and does not become the last item: what follows is linked to the item
 * that was there. Same id and same content is a repeat and writes nothing. Thread: the loop's, inside a turn.
 * Memory: strings live until the handler returns. */
#ifndef DRAFTER_TRANSCRIPTS_H
#define DRAFTER_TRANSCRIPTS_H

#include "actors/drafter/drafter.h"

typedef struct drafter_transcript {
    uint64_t items;    /* 0: none */
    stet_str last_id;  /* {NULL, 0}: none */
    int64_t last_ms;   /* the last item's own timestamp */
    stet_str snapshot; /* when this was last changed; {NULL, 0}: never */
} drafter_transcript;

typedef struct drafter_item {
    uint64_t sequence; /* from 1 */
    stet_str id;
    stet_str previous_id; /* {NULL, 0}: none */
    stet_str role;
    stet_str text;
    int64_t at_ms;
    stet_str row; /* MessagePack map */
} drafter_item;

/* items 0 when there is none. */
NODISCARD
stet_code drafter_transcript_head(stet_turn *turn, stet_str project, drafter_transcript *ret, stet_error *e);
/* STET_NOT_FOUND. */
NODISCARD
stet_code drafter_item_read(stet_turn *turn, stet_str project, uint64_t sequence, drafter_item *ret,
                            stet_error *e);
/* Sequence of the first item with this id. STET_NOT_FOUND. */
NODISCARD
stet_code drafter_item_find(stet_turn *turn, stet_str project, stet_str id, uint64_t *ret, stet_error *e);
/* A map {items, lastItemId, lastAt, snapshotAt}; lastItemId, lastAt and snapshotAt are null in an empty
 * transcript. */
void drafter_snapshot_encode(const drafter_transcript *transcript, stet_buf *b);

#endif
