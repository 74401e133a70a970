/* An HTTP/1.1 load generator for gateways of chat completions; prints one line of JSON.
 *
 *   load --address 127.0.0.1:4806 --path /v1/chat/completions --body FILE [--header 'N: V'] ...
 *        --clients 32 --seconds 4 [--requests N] [--rate N] [--opening N] [--marks N] [--end TEXT]
 *
 * Closed loop (no --rate): each of the clients sends its next request as soon as it has its answer.
 * That finds out what a request costs, and how many of them fit into a second.
 *
 * Open loop (--rate N): N requests a second are due at fixed moments, whatever became of the ones
 * before, each sent on the connection that has been idle the longest. Latency counts from the
 * moment a request was due, so a gateway that stalls pays for every request that had to wait
 * ("coordinated omission" is the name for forgetting that). All connections are opened first and
 * held until the end: with --clients 10000 --rate 100 most of them are idle.
 *
 * --requests  no more than so many
 * --opening   no more than so many connects under way at a time while the connections are opened
 * --marks     so many marks of upstream.c ("@TS=<16 digits>@") are in each answer; an answer that
 *             has another number of them, or does not end with --end, is a stream that was lost
 * --end       the text at the end of each stream; [DONE] if it is not given
 */
#define _GNU_SOURCE
#include "answer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
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

enum { READ_SIZE = 1 << 18, EVENTS = 512, STATUSES = 600 };

/* What is waited for after the deadline, until the requests in flight count as failed. */
static const double GRACE_US = 10e6;
static const double SETTLE_US = 1e6;

struct connection {
    int fd;                         /* -1: closed */
    bool connected, in_use, used_before, waits_for_room;
    size_t sent;                    /* bytes of the request */
    double due;                     /* when its request should have begun, in microseconds */
    struct answer answer;
};

static struct options {
    struct sockaddr_in address;
    const char *host, *path, *body, *end, *headers[16];
    int header_count, clients, marks, opening;
    long requests;
    double seconds, rate;
} options = {.path = "/", .end = "[DONE]", .clients = 1, .marks = -1, .requests = 1L << 60, .seconds = 4};

static int epoll;
static char *request;
static size_t request_length;
static struct connection *all;

/* Connections without a request, the one that has been idle the longest first. */
static struct connection **idle;
static int idle_start, idle_count;

static double start_us, end_us, last_answer_us;
static long started, completed, errors, lost_streams, connects, closed_by_peer, retried;
static long long body_bytes;
static long by_status[STATUSES];
static struct series latencies, first_marks, mark_delays;
static char first_error[128], first_bad_answer[BEGINNING];

static double now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

/* -- connections ------------------------------------------------------------------------------ */

static void watch(struct connection *c, int operation, bool room) {
    struct epoll_event event = {.events = EPOLLIN | (room ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(epoll, operation, c->fd, &event);
    c->waits_for_room = room;
}

static void open_connection(struct connection *c) {
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) {
        perror("load: socket");
        exit(1);
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(c->fd, (void *)&options.address, sizeof options.address) && errno != EINPROGRESS) {
        perror("load: connect");
        exit(1);
    }
    c->connected = c->used_before = false;
    connects++;
    watch(c, EPOLL_CTL_ADD, true);
}

static void close_connection(struct connection *c) {
    close(c->fd);
    c->fd = -1;
    c->connected = false;
}

static void make_idle(struct connection *c) {
    c->in_use = false;
    idle[(idle_start + idle_count++) % options.clients] = c;
}

static struct connection *take_idle(void) {
    struct connection *c = idle[idle_start];
    idle_start = (idle_start + 1) % options.clients;
    idle_count--;
    return c;
}

/* -- one request ------------------------------------------------------------------------------ */

static void fail(struct connection *c, const char *what) {
    errors++;
    if (!first_error[0])
        snprintf(first_error, sizeof first_error, "%s (%s)", what, strerror(errno));
    close_connection(c);
    make_idle(c);
}

/* Writes what the socket takes; the rest follows when there is room. */
static void send_request(struct connection *c) {
    while (c->sent < request_length) {
        ssize_t n = write(c->fd, request + c->sent, request_length - c->sent);
        if (n < 0 && (errno == EAGAIN || errno == ENOTCONN)) {
            if (!c->waits_for_room) watch(c, EPOLL_CTL_MOD, true);
            return;
        }
        /* What the gateway said before it closed may still be there to read. */
        if (n < 0) break;
        c->sent += n;
    }
    if (c->waits_for_room) watch(c, EPOLL_CTL_MOD, false);
}

static void begin(struct connection *c, double due) {
    c->in_use = true;
    c->due = due;
    c->sent = 0;
    begin_answer(&c->answer);
    if (c->fd < 0) open_connection(c);
    if (c->connected) send_request(c);
}

/* For the report; what would break its JSON becomes a quote. */
static void keep_bad_answer(const char *text) {
    for (size_t i = 0; text[i]; i++) {
        bool plain = text[i] >= ' ' && text[i] <= '~' && text[i] != '"' && text[i] != '\\';
        first_bad_answer[i] = plain ? text[i] : '\'';
    }
}

static void count(const struct answer *answer, double due, double now) {
    completed++;
    body_bytes += answer->body_length;
    by_status[answer->status > 0 && answer->status < STATUSES ? answer->status : 0]++;
    add_to(&latencies, now - due);
    if (answer->first_mark_us) add_to(&first_marks, answer->first_mark_us - due);
    if (answer->status != 200) {
        if (!first_bad_answer[0]) keep_bad_answer(answer->beginning);
    } else if (options.marks >= 0 && (answer->marks != options.marks || !is_done(answer, options.end))) {
        lost_streams++;
    }
}

static void complete(struct connection *c, double now) {
    last_answer_us = now;
    count(&c->answer, c->due, now);
    c->used_before = true;
    /* Answered before it was all sent, such as 413: the rest would be read as another request. */
    if (c->answer.closes || c->sent < request_length) close_connection(c);
    make_idle(c);
}

/* The gateway closed the connection, in order or not. */
static void closed(struct connection *c, double now) {
    if (!c->in_use) {
        closed_by_peer++;
        close_connection(c);
    } else if (c->answer.reading == BODY_UNTIL_CLOSE) {
        complete(c, now);
    } else if (c->used_before && c->answer.reading == HEAD && !c->answer.head_length) {
        /* It closed the idle connection while our request was on its way: once more, as any
         * client would. A fresh connection is not forgiven a second time. */
        retried++;
        close_connection(c);
        begin(c, c->due);
    } else {
        fail(c, "closed before the answer was complete");
    }
}

/* -- the loop --------------------------------------------------------------------------------- */

static bool connect_ends(struct connection *c) {
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    errno = error;
    c->connected = !error;
    return c->connected;
}

static void read_some(struct connection *c) {
    static char buffer[READ_SIZE];
    ssize_t n = read(c->fd, buffer, sizeof buffer);
    if (n < 0 && errno == EAGAIN) return;
    double now = now_us();
    /* What comes without a request is a goodbye, such as 408. */
    if (n <= 0 || !c->in_use) closed(c, now);
    else if (!take_answer(&c->answer, buffer, n, now, &mark_delays)) fail(c, "no HTTP answer");
    else if (c->answer.reading == COMPLETE) complete(c, now);
}

static void serve(struct connection *c, unsigned events) {
    if (c->fd < 0) return;
    if (!c->connected) {
        if (!connect_ends(c)) {
            if (c->in_use) fail(c, "connect"); else closed(c, now_us());
            return;
        }
        if (!c->in_use) watch(c, EPOLL_CTL_MOD, false);
    }
    if ((events & EPOLLOUT) && c->in_use) send_request(c);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) read_some(c);
}

static void turn(double until_us) {
    struct epoll_event events[EVENTS];
    double left = until_us - now_us();
    if (left < 0) left = 0;
    struct timespec timeout = {.tv_sec = left / 1e6};
    timeout.tv_nsec = (left - timeout.tv_sec * 1e6) * 1e3;
    int count = epoll_pwait2(epoll, events, EVENTS, &timeout, NULL);
    for (int i = 0; i < count; i++) serve(events[i].data.ptr, events[i].events);
}

/* Every connection before the first request, with a bounded number of connects under way. */
static void open_all(void) {
    double give_up = now_us() + 60e6;
    for (int opened = 0, ready = 0; ready < options.clients && now_us() < give_up;) {
        while (opened < options.clients && opened - ready < options.opening)
            open_connection(&all[opened++]);
        turn(now_us() + 10e3);
        ready = 0;
        for (int i = 0; i < opened; i++) ready += all[i].connected || all[i].fd < 0;
    }
    /* The kernel has them; the gateway may still be busy accepting the last ones. */
    for (double settled = now_us() + SETTLE_US; now_us() < settled;) turn(settled);
}

static int open_connections(void) {
    int count = 0;
    for (int i = 0; i < options.clients; i++) count += all[i].connected;
    return count;
}

/* Begins what is due; gives the moment of the next. */
static double begin_due(void) {
    double now = now_us();
    while (idle_count && started < options.requests) {
        double due = options.rate ? start_us + started / options.rate * 1e6 : now;
        if (due > now) return due;
        if (due >= end_us) break;
        started++;
        begin(take_idle(), due);
    }
    return now + 100e3;
}

static bool work_is_left(void) {
    if (idle_count < options.clients) return true;
    double due = options.rate ? start_us + started / options.rate * 1e6 : now_us();
    return started < options.requests && due < end_us;
}

static void run(void) {
    start_us = last_answer_us = now_us();
    end_us = start_us + options.seconds * 1e6;
    while (work_is_left() && now_us() < end_us + GRACE_US) turn(begin_due());
    errno = ETIMEDOUT;
    for (int i = 0; i < options.clients; i++)
        if (all[i].in_use) fail(&all[i], "no answer in time");
    /* Requests that were due and found no connection free are failures as well. */
    if (options.rate) {
        long due = options.rate * options.seconds;
        if (due > options.requests) due = options.requests;
        if (started < due) errors += due - started;
    }
}

/* -- what is printed -------------------------------------------------------------------------- */

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(const struct series *sorted, double share) {
    return sorted->count ? sorted->values[(size_t)(share * (sorted->count - 1) + 0.5)] : 0;
}

static void print_series(const char *name, struct series *series) {
    if (series->count) qsort(series->values, series->count, sizeof(double), ascending);
    printf(",\"%s\":{\"count\":%zu,\"p50\":%.0f,\"p99\":%.0f,\"max\":%.0f}", name, series->count,
           quantile(series, .5), quantile(series, .99), quantile(series, 1));
}

static void print_result(int opened) {
    printf("{\"completed\":%ld,\"errors\":%ld,\"seconds\":%.3f,\"lost_streams\":%ld", completed,
           errors, (last_answer_us - start_us) / 1e6, lost_streams);
    printf(",\"connects\":%ld,\"opened\":%d,\"still_open\":%d,\"closed_by_peer\":%ld", connects,
           opened, open_connections(), closed_by_peer);
    printf(",\"retried\":%ld,\"body_bytes\":%lld", retried, body_bytes);
    print_series("latency_us", &latencies);
    print_series("first_mark_us", &first_marks);
    print_series("mark_delay_us", &mark_delays);
    printf(",\"status\":{");
    const char *comma = "";
    for (int status = 0; status < STATUSES; status++)
        if (by_status[status]) {
            printf("%s\"%d\":%ld", comma, status, by_status[status]);
            comma = ",";
        }
    printf("},\"first_error\":\"%s\",\"first_bad_answer\":\"%s\"}\n", first_error,
           first_bad_answer);
}

/* -- options ---------------------------------------------------------------------------------- */

static void set_address(char *text) {
    options.host = strdup(text);
    char *colon = strchr(text, ':');
    if (!colon) {
        fprintf(stderr, "load: --address wants HOST:PORT\n");
        exit(2);
    }
    *colon = 0;
    options.address.sin_family = AF_INET;
    options.address.sin_port = htons(atoi(colon + 1));
    inet_pton(AF_INET, text, &options.address.sin_addr);
}

static void add_header(const char *line) {
    const int most = sizeof options.headers / sizeof *options.headers;
    if (options.header_count < most) options.headers[options.header_count++] = line;
}

static void read_options(int argc, char **argv) {
    static const struct option known[] = {
        {"address", 1, 0, 'a'}, {"path", 1, 0, 'p'}, {"body", 1, 0, 'b'}, {"header", 1, 0, 'h'},
        {"clients", 1, 0, 'c'}, {"seconds", 1, 0, 's'}, {"requests", 1, 0, 'n'},
        {"rate", 1, 0, 'r'}, {"opening", 1, 0, 'o'}, {"marks", 1, 0, 'm'}, {"end", 1, 0, 'e'}, {0}};
    int option;
    while ((option = getopt_long(argc, argv, "", known, NULL)) > 0) {
        switch (option) {
        case 'a': set_address(optarg); break;
        case 'p': options.path = optarg; break;
        case 'b': options.body = optarg; break;
        case 'h': add_header(optarg); break;
        case 'c': options.clients = atoi(optarg); break;
        case 's': options.seconds = atof(optarg); break;
        case 'n': options.requests = atol(optarg); break;
        case 'r': options.rate = atof(optarg); break;
        case 'o': options.opening = atoi(optarg); break;
        case 'e': options.end = optarg; break;
        case 'm': options.marks = atoi(optarg); break;
        default: exit(2);
        }
    }
    if (!options.host || !options.body || options.clients < 1) {
        fprintf(stderr, "usage: load --address HOST:PORT --path PATH --body FILE ...\n");
        exit(2);
    }
    if (options.opening < 1) options.opening = options.clients;
}

static void prepare_request(void) {
    FILE *file = fopen(options.body, "rb");
    if (!file) {
        perror(options.body);
        exit(1);
    }
    fseek(file, 0, SEEK_END);
    long length = ftell(file);
    rewind(file);
    request = malloc(length + 16384);
    size_t n = sprintf(request, "POST %s HTTP/1.1\r\nHost: %s\r\n", options.path, options.host);
    for (int i = 0; i < options.header_count; i++)
        n += sprintf(request + n, "%s\r\n", options.headers[i]);
    n += sprintf(request + n, "Content-Type: application/json\r\n");
    n += sprintf(request + n, "Content-Length: %ld\r\n\r\n", length);
    request_length = n + fread(request + n, 1, length, file);
    fclose(file);
}

static void raise_limit_of_descriptors(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_TIMERSLACK, 1);        /* requests go when they are due, not 50 us later */
    raise_limit_of_descriptors();
    read_options(argc, argv);
    prepare_request();
    epoll = epoll_create1(EPOLL_CLOEXEC);
    all = calloc(options.clients, sizeof *all);
    idle = calloc(options.clients, sizeof *idle);
    for (int i = 0; i < options.clients; i++) {
        all[i].fd = -1;
        make_idle(&all[i]);
    }
    if (options.rate) open_all();
    int opened = open_connections();
    run();
    print_result(opened);
}
