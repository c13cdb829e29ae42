// The floor of the benchmarks: what the machine's kernel and TCP leave over when a server does next to nothing.
// One thread, one epoll, canned answers chosen by two bytes of the request, no parsing beyond the blank line and
// content-length. It is no server: it trusts its client.

#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define COMMON "content-type: text/plain; charset=utf-8\r\ndate: Sun, 22 Nov 2026 05:06:07 GMT\r\n"
#define MAX_FD 65536

#define CHUNK (64 * 1024)
#define CHUNKS 64
#define EVENT "data: {\"price\": 101.25, \"size\": 300}\n\n"
#define EVENTS 20

static char in[1 << 18], out[1 << 18], stream[16384], echo[1024], json10k[16384], headers[2048], events_head[256];
static char chunks[CHUNKS * (CHUNK + 16) + 256], event_chunk[64];
static size_t stream_size, echo_size, json10k_size, headers_size, chunks_size, events_head_size, event_size;

// What is left over between two reads: the size of an unread body, and the answer that waits for its end. A large answer
// that the kernel has not taken yet, and events that are still to be sent, are left over between two turns.
static struct connection {
    size_t body_left; const char *pending; size_t pending_size; char head[2048]; size_t head_size;
    const char *large; size_t large_size; int events_left, last, listed;
} *conns[MAX_FD];
static int sending_events[MAX_FD], sending;

static const char PLAIN[] = "HTTP/1.1 200 OK\r\ncontent-length: 13\r\n" COMMON "\r\nHello, World!";
static const char LAST[] = "HTTP/1.1 200 OK\r\ncontent-length: 13\r\nconnection: close\r\n" COMMON "\r\nHello, World!";
static const char JSON[] = "HTTP/1.1 200 OK\r\ncontent-length: 27\r\ncontent-type: application/json\r\n"
                           "date: Sun, 22 Nov 2026 05:06:07 GMT\r\n\r\n{\"message\":\"Hello, World!\"}";
static const char USER[] = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n" COMMON "\r\n123";
static const char UPLOAD[] = "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n" COMMON "\r\n20971520";

static const char QUERY[] = "HTTP/1.1 200 OK\r\ncontent-length: 12\r\n" COMMON "\r\n123 10 hello";
static const char MULTIPART[] = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n" COMMON "\r\n3 4096";

static void choose(const char *head, const char **answer, size_t *size) {
    const char *path = strchr(head, ' ') + 2;
#define ANSWER(beginning, bytes, length) if (!strncmp(path, beginning, sizeof beginning - 1)) { *answer = bytes, *size = length; return; }
    ANSWER("json10k", json10k, json10k_size)
    ANSWER("json", JSON, sizeof JSON - 1)
    ANSWER("users", USER, sizeof USER - 1)
    ANSWER("items", QUERY, sizeof QUERY - 1)
    ANSWER("headers", headers, headers_size)
    ANSWER("upload", UPLOAD, sizeof UPLOAD - 1)
    ANSWER("multipart", MULTIPART, sizeof MULTIPART - 1)
    ANSWER("stream", stream, stream_size)
    ANSWER("chunks", chunks, chunks_size)
    ANSWER("events", events_head, events_head_size)
    ANSWER("echo", echo, echo_size)
    *answer = PLAIN, *size = sizeof PLAIN - 1;
}

// Answers every request that ends in `data`; returns the bytes put into `out`. A head cut in two waits in the connection.
static size_t serve(struct connection *c, int fd, char *data, size_t size) {
    size_t written = 0;
    if (c->head_size) {
        memmove(data + c->head_size, data, size), memcpy(data, c->head, c->head_size);
        size += c->head_size, c->head_size = 0;
    }
    for (;;) {
        if (c->pending) {
            size_t taken = size < c->body_left ? size : c->body_left;
            data += taken, size -= taken;
            if (c->body_left -= taken) return written;
            memcpy(out + written, c->pending, c->pending_size), written += c->pending_size, c->pending = NULL;
        }
        char *end = memmem(data, size, "\r\n\r\n", 4);
        if (!end || written > sizeof out - sizeof stream) break;
        const char *answer;
        size_t answer_size;
        *end = 0;
        choose(data, &answer, &answer_size);
        c->last |= strcasestr(data, "\nconnection: close") != NULL;
        if (c->last && answer == PLAIN) answer = LAST, answer_size = sizeof LAST - 1;
        if (answer == events_head) {
            c->events_left = EVENTS;
            if (!c->listed) c->listed = 1, sending_events[sending++] = fd;
        }
        if (*data == 'P') {
            char *length = strcasestr(data, "\ncontent-length:");
            c->body_left = length ? strtoul(length + 16, NULL, 10) : 0;
            c->pending = answer, c->pending_size = answer_size;
        } else if (answer_size > sizeof stream) {
            c->large = answer, c->large_size = answer_size;
        } else {
            memcpy(out + written, answer, answer_size), written += answer_size;
        }
        size -= end + 4 - data, data = end + 4;
    }
    if (size > sizeof c->head) exit(2);
    memcpy(c->head, data, size), c->head_size = size;
    return written;
}

static void build_answers(void) {
    char *p = stream + sprintf(stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n" COMMON "\r\n");
    for (int i = 0; i < 10; i++) {
        p += sprintf(p, "400\r\n"), memset(p, 'x', 1024), p += 1024, p += sprintf(p, "\r\n");
    }
    p += sprintf(p, "0\r\n\r\n"), stream_size = p - stream;
    const char *body = getenv("ECHO_BODY");
    if (!body) body = "{}";
    echo_size = snprintf(echo, sizeof echo, "HTTP/1.1 200 OK\r\ncontent-length: %zu\r\ncontent-type: application/json\r\n"
                         "date: Sun, 22 Nov 2026 05:06:07 GMT\r\n\r\n%s", strlen(body), body);
    if (echo_size >= sizeof echo) exit(2);
    body = getenv("JSON_BODY");
    if (!body) body = "[]";
    json10k_size = snprintf(json10k, sizeof json10k, "HTTP/1.1 200 OK\r\ncontent-length: %zu\r\ncontent-type: application/json\r\n"
                            "date: Sun, 22 Nov 2026 05:06:07 GMT\r\n\r\n%s", strlen(body), body);
    if (json10k_size >= sizeof json10k) exit(2);
    p = headers + sprintf(headers, "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n" COMMON);
    for (int i = 0; i < 20; i++) p += sprintf(p, "x-header-%02d: value-%02d\r\n", i, i);
    p += sprintf(p, "\r\nvalue-10"), headers_size = p - headers;
    p = chunks + sprintf(chunks, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n" COMMON "\r\n");
    for (int i = 0; i < CHUNKS; i++) {
        p += sprintf(p, "%x\r\n", CHUNK), memset(p, 'x', CHUNK), p += CHUNK, p += sprintf(p, "\r\n");
    }
    p += sprintf(p, "0\r\n\r\n"), chunks_size = p - chunks;
    events_head_size = sprintf(events_head, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n" COMMON "\r\n");
    event_size = sprintf(event_chunk, "%zx\r\n%s\r\n", strlen(EVENT), EVENT);
}

// Sends what the kernel takes of a large answer, and asks to be told when it takes more.
static void send_large(struct connection *c, int poll, int fd) {
    ssize_t sent = send(fd, c->large, c->large_size, MSG_NOSIGNAL);
    if (sent > 0) c->large += sent, c->large_size -= sent;
    if (sent < 0 && errno != EAGAIN) { close(fd); return; }
    struct epoll_event event = {.events = EPOLLIN | (c->large_size ? EPOLLOUT : 0), .data.fd = fd};
    epoll_ctl(poll, EPOLL_CTL_MOD, fd, &event);
}

// Sends one event on each connection that is owed some.
static void send_events(void) {
    int left = 0;
    for (int i = 0; i < sending; i++) {
        int fd = sending_events[i];
        struct connection *c = conns[fd];
        char last[128];
        size_t size = event_size;
        if (!c->listed || c->events_left <= 0) { c->listed = 0; continue; }
        memcpy(last, event_chunk, event_size);
        if (--c->events_left == 0) memcpy(last + size, "0\r\n\r\n", 5), size += 5;
        if (send(fd, last, size, MSG_NOSIGNAL) == (ssize_t)size && c->events_left) sending_events[left++] = fd;
        else c->listed = 0;
    }
    sending = left;
}

int main(int argc, char **argv) {
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), poll = epoll_create1(0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(argc > 1 ? atoi(argv[1]) : 8000),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event events[256], event = {.events = EPOLLIN, .data.fd = listener};
    build_answers();
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (void *)&address, sizeof address) || listen(listener, 4096)) return perror("floor"), 1;
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int count = epoll_wait(poll, events, 256, sending ? 0 : -1);
        send_events();
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    if (fd >= MAX_FD) { close(fd); continue; }
                    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                    if (!conns[fd]) conns[fd] = malloc(sizeof **conns);
                    memset(conns[fd], 0, sizeof **conns);
                    event.data.fd = fd, epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
                }
                continue;
            }
            if (conns[fd]->large_size && events[i].events & EPOLLOUT) {
                send_large(conns[fd], poll, fd);
                continue;
            }
            // Room before the bytes for a head kept from the last read, and one byte after them for a NUL.
            ssize_t got = recv(fd, in, sizeof in - sizeof conns[fd]->head - 1, 0);
            if (got <= 0) {
                if (got == 0 || errno != EAGAIN) conns[fd]->large_size = 0, close(fd);
                continue;
            }
            size_t size = serve(conns[fd], fd, in, got);
            if (size && send(fd, out, size, MSG_NOSIGNAL) != (ssize_t)size) close(fd);
            else if (conns[fd]->large_size) send_large(conns[fd], poll, fd);
            else if (conns[fd]->last && !conns[fd]->listed) close(fd);
        }
    }
}
