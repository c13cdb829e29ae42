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

static char in[1 << 18], out[1 << 18], stream[16384], echo[1024];
static size_t stream_size, echo_size;

// What is left over between two reads: the size of an unread body, and the answer that waits for its end.
static struct connection { size_t body_left; const char *pending; size_t pending_size; char head[2048]; size_t head_size; } *conns[MAX_FD];

static const char PLAIN[] = "HTTP/1.1 200 OK\r\ncontent-length: 13\r\n" COMMON "\r\nHello, World!";
static const char JSON[] = "HTTP/1.1 200 OK\r\ncontent-length: 27\r\ncontent-type: application/json\r\n"
                           "date: Sun, 22 Nov 2026 05:06:07 GMT\r\n\r\n{\"message\":\"Hello, World!\"}";
static const char USER[] = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n" COMMON "\r\n123";
static const char UPLOAD[] = "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n" COMMON "\r\n20971520";

static void choose(const char *head, const char **answer, size_t *size) {
    const char *path = strchr(head, ' ') + 2;
    switch (*path) {
    case 'j': *answer = JSON, *size = sizeof JSON - 1; break;
    case 'u': *answer = path[1] == 's' ? USER : UPLOAD, *size = (path[1] == 's' ? sizeof USER : sizeof UPLOAD) - 1; break;
    case 's': *answer = stream, *size = stream_size; break;
    case 'e': *answer = echo, *size = echo_size; break;
    default: *answer = PLAIN, *size = sizeof PLAIN - 1;
    }
}

// Answers every request that ends in `data`; returns the bytes put into `out`. A head cut in two waits in the connection.
static size_t serve(struct connection *c, char *data, size_t size) {
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
        if (*data == 'P') {
            char *length = strcasestr(data, "\ncontent-length:");
            c->body_left = length ? strtoul(length + 16, NULL, 10) : 0;
            c->pending = answer, c->pending_size = answer_size;
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
        int count = epoll_wait(poll, events, 256, -1);
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
            // Room before the bytes for a head kept from the last read, and one byte after them for a NUL.
            ssize_t got = recv(fd, in, sizeof in - sizeof conns[fd]->head - 1, 0);
            if (got <= 0) {
                if (got == 0 || errno != EAGAIN) close(fd);
                continue;
            }
            size_t size = serve(conns[fd], in, got);
            if (size && send(fd, out, size, MSG_NOSIGNAL) != (ssize_t)size) close(fd);
        }
    }
}
