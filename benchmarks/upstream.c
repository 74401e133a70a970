/* A made-up Gemini API that costs next to nothing, for measuring what stands in front of it.
 *
 *   upstream PORT
 *
 * One thread, epoll, 127.0.0.1 only, HTTP/1.1 with Content-Length bodies.
 *
 *   POST /v1beta/models/M:generateContent                one answer of Gemini's
 *   POST /v1beta/models/M:streamGenerateContent?alt=sse  a stream of Gemini's
 *   POST /v1beta/openai/chat/completions                 the same in OpenAI's format, for a proxy
 *   POST /v1beta/openai/chat/completions?stream          that does not translate
 *   GET  /_control?chunks=N&pace_us=N                    streams from now on: so many chunks, so
 *                                                        far apart (0: all of them in one write)
 *   GET  /_statistics                                    what came in since the last control call
 *
 * Every chunk of a stream carries the moment it was sent, "@TS=<16 digits>@" in microseconds of
 * CLOCK_MONOTONIC. A load generator on the same machine can tell from it how long that one chunk
 * was on its way, and whether any chunk is missing.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_LIMIT = 16384, READ_SIZE = 1 << 20, EVENTS = 512, MARK_DIGITS = 16 };

struct connection {
    int fd;
    bool waits_for_room;        /* the socket's buffer is full */
    char head[HEAD_LIMIT];
    size_t head_length;
    long long body_left;        /* -1 while the head is not complete */
    char *out;
    size_t out_length, out_sent, out_capacity;
    bool openai;                /* whose format the stream is in */
    int chunks_left;
    double due;                 /* of the next chunk, in microseconds */
    struct connection *next;    /* in the queue of paced streams */
    bool queued, gone;
};

static int epoll;
static int chunks = 100;
static long pace_us = 0;
static long requests, connections, streams_cut;

/* Paced streams wait in the order in which they are due. All of them have the same pace, so a
 * stream that has just sent a chunk is always the last one: a plain queue is enough. */
static struct connection *first_due, *last_due;

/* -- what is answered ------------------------------------------------------------------------- */

#define WORDS \
    "The ferry leaves at nine and comes back at noon; whoever misses it has the afternoon for " \
    "the lighthouse, the museum of knots and a very long lunch at the harbour."
#define MARK "@TS=0000000000000000@"

static const char gemini_answer[] =
    "{\n  \"candidates\": [\n    {\n      \"content\": {\n        \"parts\": [\n          {\n"
    "            \"text\": \"" WORDS "\"\n          }\n        ],\n        \"role\": \"model\"\n"
    "      },\n      \"finishReason\": \"STOP\",\n      \"index\": 0\n    }\n  ],\n"
    "  \"usageMetadata\": {\n    \"promptTokenCount\": 250,\n    \"candidatesTokenCount\": 50,\n"
    "    \"totalTokenCount\": 300,\n    \"promptTokensDetails\": [\n      {\n"
    "        \"modality\": \"TEXT\",\n        \"tokenCount\": 250\n      }\n    ]\n  },\n"
    "  \"modelVersion\": \"gemini-2.5-flash\",\n  \"responseId\": \"bench-answer\"\n}\n";
static const char openai_answer[] =
    "{\"choices\":[{\"finish_reason\":\"stop\",\"index\":0,\"message\":{\"content\":\"" WORDS "\","
    "\"role\":\"assistant\"}}],\"created\":1760000000,\"id\":\"bench-answer\","
    "\"model\":\"gemini-2.5-flash\",\"object\":\"chat.completion\",\"usage\":"
    "{\"completion_tokens\":50,\"prompt_tokens\":250,\"total_tokens\":300}}";

static const char no_such_path[] =
    "{\"error\":{\"code\":404,\"message\":\"no such path\",\"status\":\"NOT_FOUND\"}}";

#define GEMINI_CHUNK(finish, tokens, total) \
    "data: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \"some streamed words " \
    MARK " \"}],\"role\": \"model\"}," finish "\"index\": 0}],\"usageMetadata\": " \
    "{\"promptTokenCount\": 250,\"candidatesTokenCount\": " tokens ",\"totalTokenCount\": " \
    total ",\"promptTokensDetails\": [{\"modality\": \"TEXT\",\"tokenCount\": 250}]}," \
    "\"modelVersion\": \"gemini-2.5-flash\"," \
    "\"responseId\": \"bench-answer\"}\r\n\r\n"
#define OPENAI_CHUNK(finish) \
    "data: {\"choices\":[{\"delta\":{\"content\":\"some streamed words " MARK " \"," \
    "\"role\":\"assistant\"}," finish "\"index\":0}],\"created\":1760000000," \
    "\"id\":\"bench-answer\",\"model\":\"gemini-2.5-flash\"," \
    "\"object\":\"chat.completion.chunk\"}\n\n"

/* By [in OpenAI's format][last chunk]. */
static const char *const chunk_texts[2][2] = {
    {GEMINI_CHUNK("", "10", "260"), GEMINI_CHUNK("\"finishReason\": \"STOP\",", "1000", "1250")},
    {OPENAI_CHUNK(""), OPENAI_CHUNK("\"finish_reason\":\"stop\",")},
};
static const char openai_end[] = "e\r\ndata: [DONE]\n\n\r\n";
static const char stream_head[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Disposition: attachment\r\n"
    "Vary: Origin\r\nTransfer-Encoding: chunked\r\nServer: bench\r\n\r\n";

/* A chunk as it goes over the wire, and where its mark's digits are. */
static struct frame { char text[1024]; size_t length, digits; } frames[2][2];

static void prepare_frames(void) {
    for (int openai = 0; openai < 2; openai++)
        for (int last = 0; last < 2; last++) {
            struct frame *frame = &frames[openai][last];
            const char *text = chunk_texts[openai][last];
            frame->length = sprintf(frame->text, "%zx\r\n%s\r\n", strlen(text), text);
            frame->digits = strstr(frame->text, "@TS=") + 4 - frame->text;
        }
}

/* -- writing ---------------------------------------------------------------------------------- */

static double now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static void put(struct connection *c, const char *bytes, size_t length) {
    if (c->out_length + length > c->out_capacity) {
        c->out_capacity = (c->out_length + length) * 2;
        c->out = realloc(c->out, c->out_capacity);
    }
    memcpy(c->out + c->out_length, bytes, length);
    c->out_length += length;
}

static void put_text(struct connection *c, const char *text) { put(c, text, strlen(text)); }

static void put_chunk(struct connection *c, double now) {
    c->chunks_left--;
    const struct frame *frame = &frames[c->openai][c->chunks_left == 0];
    char digits[MARK_DIGITS + 1];
    snprintf(digits, sizeof digits, "%0*lld", MARK_DIGITS, (long long)now);
    size_t start = c->out_length;
    put(c, frame->text, frame->length);
    memcpy(c->out + start + frame->digits, digits, MARK_DIGITS);
    if (c->chunks_left) return;
    if (c->openai) put_text(c, openai_end);
    put_text(c, "0\r\n\r\n");
}

static void wait_for_room(struct connection *c, bool wait) {
    if (c->waits_for_room == wait) return;
    c->waits_for_room = wait;
    struct epoll_event event = {.events = EPOLLIN | (wait ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &event);
}

/* False when the other side is gone. */
static bool flush(struct connection *c) {
    while (c->out_sent < c->out_length) {
        ssize_t n = write(c->fd, c->out + c->out_sent, c->out_length - c->out_sent);
        if (n < 0 && errno == EAGAIN) {
            wait_for_room(c, true);
            return true;
        }
        if (n < 0) return false;
        c->out_sent += n;
    }
    c->out_sent = c->out_length = 0;
    wait_for_room(c, false);
    return true;
}

/* -- answering -------------------------------------------------------------------------------- */

static void enqueue(struct connection *c, double now) {
    c->due = now + pace_us;
    c->next = NULL;
    c->queued = true;
    if (last_due) last_due->next = c; else first_due = c;
    last_due = c;
}

static void put_json(struct connection *c, const char *status, const char *body) {
    char head[256];
    snprintf(head, sizeof head,
             "HTTP/1.1 %s\r\nContent-Type: application/json; charset=UTF-8\r\nVary: Origin\r\n"
             "Server: bench\r\nContent-Length: %zu\r\n\r\n", status, strlen(body));
    put_text(c, head);
    put_text(c, body);
}

static void begin_stream(struct connection *c) {
    double now = now_us();
    c->chunks_left = chunks;
    put_text(c, stream_head);
    do put_chunk(c, now); while (!pace_us && c->chunks_left);
    if (c->chunks_left) enqueue(c, now);
}

static long parameter(const char *path, const char *name, long otherwise) {
    const char *found = strstr(path, name);
    return found ? atol(found + strlen(name)) : otherwise;
}

static void control(struct connection *c, const char *path) {
    chunks = parameter(path, "chunks=", 100);
    pace_us = parameter(path, "pace_us=", 0);
    requests = connections = streams_cut = 0;
    put_json(c, "200 OK", "{}");
}

static void statistics(struct connection *c) {
    char body[256];
    snprintf(body, sizeof body, "{\"requests\":%ld,\"connections\":%ld,\"streams_cut\":%ld}",
             requests, connections, streams_cut);
    put_json(c, "200 OK", body);
}

static void answer(struct connection *c) {
    char *path = strchr(c->head, ' ') + 1;
    *strchr(path, ' ') = 0;
    c->openai = strstr(path, "/openai/") != NULL;
    c->head_length = 0;
    c->body_left = -1;
    if (!strncmp(path, "/_control", 9)) { control(c, path); return; }
    if (!strcmp(path, "/_statistics")) { statistics(c); return; }
    requests++;
    if (strstr(path, ":streamGenerateContent") || strstr(path, "?stream")) begin_stream(c);
    else if (strstr(path, ":generateContent")) put_json(c, "200 OK", gemini_answer);
    else if (c->openai) put_json(c, "200 OK", openai_answer);
    else put_json(c, "404 Not Found", no_such_path);
}

/* -- reading ---------------------------------------------------------------------------------- */

static long long content_length(const char *head) {
    const char *line = strcasestr(head, "\r\ncontent-length:");
    return line ? atoll(line + 17) : 0;
}

/* Takes bytes of the request in; false for what no client of this program sends. */
static bool take(struct connection *c, const char *bytes, size_t length) {
    if (c->body_left < 0) {
        size_t before = c->head_length;
        size_t room = HEAD_LIMIT - 1 - before, copied = length < room ? length : room;
        memcpy(c->head + before, bytes, copied);
        c->head[before + copied] = 0;
        char *end = strstr(c->head, "\r\n\r\n");
        if (!end) {
            c->head_length += copied;
            return copied == length;
        }
        end[2] = 0;
        size_t of_the_head = end + 4 - c->head - before;
        bytes += of_the_head;
        length -= of_the_head;
        c->body_left = content_length(c->head);
        char *space = strchr(c->head, ' ');
        if (!space || !strchr(space + 1, ' ')) return false;
    }
    /* The next request before the answer to this one: nobody measured here does that. */
    if (c->chunks_left || (long long)length > c->body_left) return false;
    c->body_left -= length;
    if (!c->body_left) answer(c);
    return true;
}

/* -- the loop --------------------------------------------------------------------------------- */

static void accept_all(int listener) {
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct connection *c = malloc(sizeof *c);
        memset(c, 0, sizeof *c);
        c->fd = fd;
        c->body_left = -1;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
        connections++;
    }
}

static void release(struct connection *c) {
    free(c->out);
    free(c);
}

static void drop(struct connection *c) {
    if (c->chunks_left) streams_cut++;
    close(c->fd);
    c->gone = true;
    if (!c->queued) release(c);         /* else when its turn in the queue comes */
}

static bool read_some(struct connection *c) {
    static char buffer[READ_SIZE];
    ssize_t n = read(c->fd, buffer, sizeof buffer);
    if (n < 0) return errno == EAGAIN;
    return n > 0 && take(c, buffer, n);
}

static void serve(struct connection *c, unsigned events) {
    bool readable = events & (EPOLLIN | EPOLLHUP | EPOLLERR);
    if ((readable && !read_some(c)) || !flush(c)) drop(c);
}

static void send_due_chunks(void) {
    double now = now_us();
    while (first_due && first_due->due <= now) {
        struct connection *c = first_due;
        first_due = c->next;
        if (!first_due) last_due = NULL;
        c->queued = false;
        if (c->gone) { release(c); continue; }
        put_chunk(c, now);
        if (c->chunks_left) enqueue(c, now);
        if (!flush(c)) drop(c);
    }
}

static int wait_for_events(struct epoll_event *events) {
    if (!first_due) return epoll_wait(epoll, events, EVENTS, -1);
    double left = first_due->due - now_us();
    if (left < 0) left = 0;
    struct timespec timeout = {.tv_sec = left / 1e6};
    timeout.tv_nsec = (left - timeout.tv_sec * 1e6) * 1e3;
    return epoll_pwait2(epoll, events, EVENTS, &timeout, NULL);
}

static int listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (void *)&address, sizeof address) || listen(fd, 4096)) {
        perror("upstream: listen");
        exit(1);
    }
    return fd;
}

static void raise_limit_of_descriptors(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: upstream PORT\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_TIMERSLACK, 1);        /* chunks leave when they are due, not 50 us later */
    raise_limit_of_descriptors();
    prepare_frames();
    int listener = listen_on(atoi(argv[1]));
    epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    struct epoll_event events[EVENTS];
    for (;;) {
        int count = wait_for_events(events);
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr) serve(events[i].data.ptr, events[i].events);
            else accept_all(listener);
        }
        send_due_chunks();
    }
}
