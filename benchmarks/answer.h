/* One HTTP/1.1 answer as it comes in, cut wherever the network likes, and what is measured of it. */
#ifndef ANSWER_H
#define ANSWER_H

#include <stdbool.h>
#include <stddef.h>

enum { HEAD_LIMIT = 8192, LINE_LIMIT = 32, BEGINNING = 160, TAIL = 16 };

enum reading {
    HEAD, SIZED_BODY, BODY_UNTIL_CLOSE, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER, COMPLETE,
};

/* Figures, as many as there are. */
struct series {
    double *values;
    size_t count, capacity;
};

struct answer {
    enum reading reading;           /* what comes next */
    char head[HEAD_LIMIT];
    size_t head_length;
    int status;
    bool closes;                    /* the connection is not to be used again */
    long long left;                 /* bytes of the body or of the chunk */
    char line[LINE_LIMIT];          /* a chunk's size, or a trailer */
    size_t line_length;
    long long body_length;
    char beginning[BEGINNING];      /* of the body, for what is said of a bad answer */
    char tail[TAIL];                /* the last bytes of the body */
    size_t tail_length;
    int marks;
    double first_mark_us;           /* when the first mark was read; 0: none yet */
    int mark_progress;              /* characters seen of the mark that is under way */
    double mark_us;                 /* the moment that it tells */
};

void begin_answer(struct answer *answer);

/* Takes bytes in that were read at the moment now_us; the delay of each mark, from the moment that
 * it tells, goes to mark_delays. False for bytes that are no answer. */
bool take_answer(struct answer *answer, const char *bytes, size_t length, double now_us,
                 struct series *mark_delays);

/* Whether a stream ended with the text that ends one in its dialect. */
bool is_done(const struct answer *answer, const char *end);

void add_to(struct series *series, double value);

#endif
