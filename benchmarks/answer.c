#define _GNU_SOURCE
#include "answer.h"

#include <stdlib.h>
#include <string.h>

void add_to(struct series *series, double value) {
    if (series->count == series->capacity) {
        series->capacity = series->capacity ? series->capacity * 2 : 4096;
        series->values = realloc(series->values, series->capacity * sizeof(double));
    }
    series->values[series->count++] = value;
}

void begin_answer(struct answer *answer) {
    answer->reading = HEAD;
    answer->head_length = answer->line_length = answer->tail_length = 0;
    answer->body_length = 0;
    answer->status = answer->marks = answer->mark_progress = 0;
    answer->closes = false;
    answer->first_mark_us = 0;
    memset(answer->beginning, 0, BEGINNING);
}

bool is_done(const struct answer *answer, const char *end) {
    return memmem(answer->tail, answer->tail_length, end, strlen(end)) != NULL;
}

/* -- the body --------------------------------------------------------------------------------- */

/* A mark may be cut anywhere by the network, so its matching goes on with the next bytes. */
static void look_for_marks(struct answer *answer, const char *p, const char *end, double now_us,
                           struct series *delays) {
    static const char pattern[] = "@TS=################@";
    for (; p < end; p++) {
        if (!answer->mark_progress) {
            p = memchr(p, '@', end - p);
            if (!p) return;
            answer->mark_progress = 1;
            answer->mark_us = 0;
            continue;
        }
        bool wants_digit = pattern[answer->mark_progress] == '#';
        if (wants_digit && *p >= '0' && *p <= '9') {
            answer->mark_us = answer->mark_us * 10 + (*p - '0');
        } else if (wants_digit || *p != pattern[answer->mark_progress]) {
            answer->mark_progress = 0;
            continue;
        }
        if (pattern[++answer->mark_progress]) continue;
        answer->mark_progress = 0;
        answer->marks++;
        if (!answer->first_mark_us) answer->first_mark_us = now_us;
        add_to(delays, now_us - answer->mark_us);
    }
}

static void keep_beginning(struct answer *answer, const char *bytes, size_t length) {
    for (size_t i = 0; i < length && answer->body_length + i < BEGINNING - 1; i++)
        answer->beginning[answer->body_length + i] = bytes[i];
}

static void keep_tail(struct answer *answer, const char *bytes, size_t length) {
    size_t fresh = length < TAIL ? length : TAIL;
    size_t kept = answer->tail_length < TAIL - fresh ? answer->tail_length : TAIL - fresh;
    memmove(answer->tail, answer->tail + answer->tail_length - kept, kept);
    memcpy(answer->tail + kept, bytes + length - fresh, fresh);
    answer->tail_length = kept + fresh;
}

static void take_body(struct answer *answer, const char *bytes, size_t length, double now_us,
                      struct series *delays) {
    keep_beginning(answer, bytes, length);
    answer->body_length += length;
    look_for_marks(answer, bytes, bytes + length, now_us, delays);
    keep_tail(answer, bytes, length);
}

static size_t take_counted(struct answer *answer, const char *bytes, size_t length, double now_us,
                           struct series *delays) {
    size_t taken = (long long)length < answer->left ? length : (size_t)answer->left;
    take_body(answer, bytes, taken, now_us, delays);
    answer->left -= taken;
    if (!answer->left) answer->reading = answer->reading == SIZED_BODY ? COMPLETE : CHUNK_END;
    return taken;
}

/* A byte of the line around a chunk, or of a trailer: acted upon when the line is whole. */
static void take_line(struct answer *answer, char byte) {
    if (byte != '\n') {
        if (byte != '\r' && answer->line_length < LINE_LIMIT - 1)
            answer->line[answer->line_length++] = byte;
        return;
    }
    answer->line[answer->line_length] = 0;
    if (answer->reading == CHUNK_SIZE) {
        answer->left = strtoll(answer->line, NULL, 16);
        answer->reading = answer->left ? CHUNK_DATA : TRAILER;
    } else if (answer->reading == CHUNK_END) {
        answer->reading = CHUNK_SIZE;
    } else if (!answer->line_length) {
        answer->reading = COMPLETE;
    }
    answer->line_length = 0;
}

/* -- the head --------------------------------------------------------------------------------- */

static const char *header(const char *head, const char *name) {
    const char *found = strcasestr(head, name);
    return found ? found + strlen(name) : NULL;
}

static bool says(const char *value, const char *word) {
    const char *found = value ? strcasestr(value, word) : NULL;
    return found && found < strchr(value, '\r');
}

static void head_is_complete(struct answer *answer) {
    answer->status = atoi(answer->head + strlen("HTTP/1.1 "));
    if (answer->status == 100) {
        answer->head_length = 0;
        return;
    }
    const char *length = header(answer->head, "\r\ncontent-length:");
    answer->closes = says(header(answer->head, "\r\nconnection:"), "close");
    if (says(header(answer->head, "\r\ntransfer-encoding:"), "chunked")) {
        answer->reading = CHUNK_SIZE;
    } else if (length) {
        answer->left = atoll(length);
        answer->reading = answer->left ? SIZED_BODY : COMPLETE;
    } else {
        answer->closes = true;
        answer->reading = BODY_UNTIL_CLOSE;
    }
}

/* How many of the bytes belong to the head; 0 when it is longer than any we know of. */
static size_t take_head(struct answer *answer, const char *bytes, size_t length) {
    size_t before = answer->head_length, room = HEAD_LIMIT - 1 - before;
    size_t copied = length < room ? length : room;
    memcpy(answer->head + before, bytes, copied);
    answer->head_length += copied;
    answer->head[answer->head_length] = 0;
    char *end = strstr(answer->head, "\r\n\r\n");
    if (!end) return copied;
    end[2] = 0;
    head_is_complete(answer);
    return end + 4 - answer->head - before;
}

bool take_answer(struct answer *answer, const char *bytes, size_t length, double now_us,
                 struct series *mark_delays) {
    while (length) {
        size_t taken = 1;
        switch (answer->reading) {
        case HEAD:
            taken = take_head(answer, bytes, length);
            break;
        case SIZED_BODY:
        case CHUNK_DATA:
            taken = take_counted(answer, bytes, length, now_us, mark_delays);
            break;
        case BODY_UNTIL_CLOSE:
            take_body(answer, bytes, taken = length, now_us, mark_delays);
            break;
        case CHUNK_SIZE:
        case CHUNK_END:
        case TRAILER:
            take_line(answer, *bytes);
            break;
        case COMPLETE:
            return false;
        }
        if (!taken) return false;
        bytes += taken;
        length -= taken;
    }
    return true;
}
