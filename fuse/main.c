/*
 * main.c: the command line, the daemon, the worker threads.
 *
 *   shobjfs          child
 *     fork ------->  opens the store, mounts, starts the workers
 *     waits          a worker gets the kernel's first request: "ready"
 *     exits 0 <----  leaves terminal and folder behind
 *
 * The parent does not end before the mount works: every error until then is on the caller's terminal and in the exit
 * code. With -f there is no child.
 *
 * The main thread waits for signals, which all threads block: those that end the mount, or the one that a worker sends
 * when the kernel has unmounted. Workers can be cancelled while they wait for a request, and only then.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "shobjfs.h"

#define WORKERS_MIN  4
#define WORKERS_MAX  16
#define STOP_SECONDS 2
#define WAIT_SECONDS 10 /* a request for others, at the most */

/* The documented exit codes, those of the command. */
enum exit_code {
    EXIT_DONE = 0,
    EXIT_ABSENT = 1,
    EXIT_USAGE = 2,
    EXIT_STORE = 3, /* missing or unreadable store or folder */
    EXIT_CONFLICT = 4,
    EXIT_DAMAGED = 5,
    EXIT_FULL = 6,
    EXIT_REFUSED = 7
};

/* ---- errors: the one table of what the library's numbers mean to others */

static const struct {
    int number; /* errno */
    enum exit_code exit_code;
} errors[] = {
    [0] = {0, EXIT_DONE},
    [-SHOBJ_ENOTFOUND] = {ENOENT, EXIT_ABSENT},
    [-SHOBJ_EINVAL] = {EINVAL, EXIT_USAGE},
    [-SHOBJ_ETYPE] = {ENOTDIR, EXIT_ABSENT},
    [-SHOBJ_ENOENT] = {EIO, EXIT_STORE},
    [-SHOBJ_EEXIST] = {EEXIST, EXIT_REFUSED},
    [-SHOBJ_EACCES] = {EACCES, EXIT_STORE},
    [-SHOBJ_EREADONLY] = {EROFS, EXIT_REFUSED},
    [-SHOBJ_EFULL] = {ENOSPC, EXIT_FULL},
    [-SHOBJ_ENOMEM] = {ENOMEM, EXIT_FULL},
    [-SHOBJ_EVERSION] = {EIO, EXIT_STORE},
    [-SHOBJ_EFORMAT] = {EIO, EXIT_STORE},
    [-SHOBJ_ECORRUPT] = {EIO, EXIT_DAMAGED},
    [-SHOBJ_ECONFLICT] = {EAGAIN, EXIT_CONFLICT},
    [-SHOBJ_ETIMEOUT] = {ETIMEDOUT, EXIT_CONFLICT},
    [-SHOBJ_ESTALE] = {ESTALE, EXIT_ABSENT},
    [-SHOBJ_EBUSY] = {EBUSY, EXIT_REFUSED},
    [-SHOBJ_ETXN] = {EIO, EXIT_REFUSED},
    [-SHOBJ_ELIMIT] = {ENFILE, EXIT_REFUSED},
    [-SHOBJ_EIO] = {EIO, EXIT_STORE},
    [-SHOBJ_EABORTED] = {EINTR, EXIT_CONFLICT},
    [-SHOBJ_ERETRY] = {EAGAIN, EXIT_CONFLICT},
    [-SHOBJ_EINTR] = {EINTR, EXIT_CONFLICT},
};

#define COUNT_ERROR(name, number, text) +1
_Static_assert(sizeof(errors) / sizeof(errors[0]) == 1 SHOBJ_ERRORS(COUNT_ERROR), "the table has a row for each error");

static size_t error_row(int error)
{
    int row = -error;
    return row >= 0 && row < (int)(sizeof(errors) / sizeof(errors[0])) ? (size_t)row : (size_t)-SHOBJ_EIO;
}

int error_errno(int error)
{
    return errors[error_row(error)].number;
}

/* ---- messages */

static bool is_in_background;

/* Where nobody sees standard error, they go to the system's log. */
static void log_message(enum fuse_log_level level, const char *format, va_list args)
{
    if (is_in_background) {
        vsyslog((int)level, format, args);
        return;
    }
    char text[1024];
    int bytes = vsnprintf(text, sizeof(text), format, args);
    if (bytes > 0)
        fprintf(stderr, "shobjfs: %.*s\n", (int)strcspn(text, "\n"), text);
}

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void say(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    log_message(FUSE_LOG_ERR, format, args);
    va_end(args);
}

/* ---- the command line */

typedef struct command_line {
    const char *store;
    const char *dir;
    bool is_foreground;
    double timeout;
} command_line;

static void print_help(void)
{
    puts("usage: shobjfs [-f] [-o OPTION,...] STORE DIR\n"
         "\n"
         "Mounts a store on a folder, for reading. STORE is a name or a path, as everywhere.\n"
         "\n"
         "  DIR/root/...     the objects: dict, list, tuple, frozenset are folders, all else files\n"
         "  DIR/by-id/ID     any object, by its id\n"
         "  DIR/sessions/N   who is attached\n"
         "  DIR/stat         counters\n"
         "\n"
         "Each folder of an object also has .json and .repr, which are not listed.\n"
         "\n"
         "  -f            stay in the foreground; Ctrl-C unmounts\n"
         "  -o ro         for reading, which is the default\n"
         "  -o timeout=S  let the kernel keep names and sizes for S seconds: faster, but others' changes show late\n"
         "  -h, --help    this text\n"
         "  -V, --version\n"
         "\n"
         "Unmount with 'fusermount3 -u DIR', 'shobj umount DIR', or by SIGTERM.\n"
         "Exit codes: 0 mounted; 2 wrong usage; 3 store or folder missing or unreadable; 5 store damaged; 7 refused.");
}

static int usage_error(void)
{
    fputs("usage: shobjfs [-f] [-o OPTION,...] STORE DIR   (shobjfs --help explains it)\n", stderr);
    return EXIT_USAGE;
}

static int take_timeout(const char *text, double *ret_seconds)
{
    char *end;
    double seconds = strtod(text, &end);
    if (end != text && *end == '\0' && seconds >= 0 && seconds <= 3600) {
        *ret_seconds = seconds;
        return EXIT_DONE;
    }
    say("-o timeout=%s: this is no number of seconds from 0 to 3600", text);
    return usage_error();
}

/* One option of -o. */
static int take_option(const char *option, command_line *line)
{
    static const char timeout[] = "timeout=";
    static const char *const always[] = {"ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime"};
    static const char *const never[][2] = {
        {"rw", "a mount is for reading only: change the store with 'shobj set', or from a program"},
        {"allow_other", "a mount is for the user who made it: let others mount the store for themselves"},
        {"allow_root", "a mount is for the user who made it: let root mount the store for itself"},
        {"auto_unmount", "a mount is not unmounted behind its back: use SIGTERM, or fusermount3 -u"},
    };
    if (strncmp(option, timeout, strlen(timeout)) == 0)
        return take_timeout(option + strlen(timeout), &line->timeout);
    for (size_t i = 0; i < sizeof(always) / sizeof(always[0]); i++) {
        if (strcmp(option, always[i]) == 0)
            return EXIT_DONE;
    }
    for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++) {
        if (strcmp(option, never[i][0]) == 0) {
            say("-o %s is refused: %s", option, never[i][1]);
            return EXIT_REFUSED;
        }
    }
    say("there is no option -o %s; there are timeout=SECONDS, and ro, nosuid, nodev, noexec, noatime, nodiratime, "
        "which "
        "are always in force",
        option);
    return usage_error();
}

static int take_options(char *list, command_line *line)
{
    int code = EXIT_DONE;
    for (char *option; code == EXIT_DONE && (option = strsep(&list, ",")) != NULL;) {
        if (option[0] != '\0')
            code = take_option(option, line);
    }
    return code;
}

/* *ret_is_done: there is nothing left to do but to exit. */
static int parse(int argc, char **argv, command_line *ret, bool *ret_is_done)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {"version", no_argument, NULL, 'V'}, {0}};
    *ret_is_done = true;
    for (int letter; (letter = getopt_long(argc, argv, "fo:hV", options, NULL)) != -1;) {
        int code = EXIT_DONE;
        switch (letter) {
        case 'f': ret->is_foreground = true; break;
        case 'o': code = take_options(optarg, ret); break;
        case 'h': print_help(); return EXIT_DONE;
        case 'V': printf("shobjfs %s (libfuse %s)\n", shobj_version(), fuse_pkgversion()); return EXIT_DONE;
        default: code = usage_error();
        }
        if (code != EXIT_DONE)
            return code;
    }
    if (argc - optind != 2) {
        say(argc - optind < 2 ? "a store and a folder are needed" : "only a store and a folder are needed");
        return usage_error();
    }
    ret->store = argv[optind];
    ret->dir = argv[optind + 1];
    *ret_is_done = false;
    return EXIT_DONE;
}

/* ---- the background */

static int ready_pipe[2] = {-1, -1};

/* The mount works: lets the parent go, and goes to the background. */
static void ready(void)
{
    if (ready_pipe[1] < 0)
        return;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    setsid();
    if (chdir("/") != 0)
        say("leaving the folder: %s", strerror(errno));
    is_in_background = true;
    for (int fd = STDIN_FILENO; null >= 0 && fd <= STDERR_FILENO; fd++)
        dup2(null, fd);
    if (null > STDERR_FILENO)
        close(null);
    while (write(ready_pipe[1], "", 1) < 0 && errno == EINTR)
        ;
    close(ready_pipe[1]);
}

/* In the parent: the exit code, when the child is ready or has failed. */
static int wait_for_child(pid_t child)
{
    char byte;
    ssize_t bytes;
    int status = 0;
    close(ready_pipe[1]);
    while ((bytes = read(ready_pipe[0], &byte, 1)) < 0 && errno == EINTR)
        ;
    if (bytes == 1)
        return EXIT_DONE;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    say("the process in the background ended before the mount worked (%s)", strsignal(WTERMSIG(status)));
    return EXIT_REFUSED;
}

/* Goes on in a child. False: this is the parent, to exit with *ret_code. */
static bool enter_background(int *ret_code)
{
    *ret_code = EXIT_REFUSED;
    if (pipe2(ready_pipe, O_CLOEXEC) != 0) {
        say("starting the process in the background: %s", strerror(errno));
        return false;
    }
    pid_t child = fork();
    if (child < 0) {
        say("starting the process in the background: %s", strerror(errno));
        return false;
    }
    if (child > 0) {
        *ret_code = wait_for_child(child);
        return false;
    }
    close(ready_pipe[0]);
    return true;
}

/* ---- workers */

typedef struct worker {
    pthread_t thread;
    pthread_t main;
    struct fuse_session *session;
    shobj_store *store;
    struct fuse_buf buf;
    int error;
} worker;

/* From here on the thread waits for others so long at the most: ETIMEDOUT then. */
static void begin_patience(shobj_store *store)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    shobj_deadline(store, ((int64_t)now.tv_sec + WAIT_SECONDS) * 1000000000 + now.tv_nsec);
}

static void *work(void *arg)
{
    worker *w = arg;
    int ignored;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &ignored);
    while (!fuse_session_exited(w->session)) {
        pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &ignored);
        int bytes = fuse_session_receive_buf(w->session, &w->buf);
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &ignored);
        if (bytes == -EINTR || bytes == -EAGAIN)
            continue;
        if (bytes <= 0) {
            w->error = bytes;
            break;
        }
        begin_patience(w->store);
        fuse_session_process_buf(w->session, &w->buf);
    }
    pthread_kill(w->main, SIGUSR1);
    return NULL;
}

static unsigned worker_count(void)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    return processors < WORKERS_MIN ? WORKERS_MIN : processors > WORKERS_MAX ? WORKERS_MAX : (unsigned)processors;
}

/* Ends the workers. One that is in the middle of a request gets a moment to finish it. False if it did not. */
static bool stop_workers(worker *workers, unsigned count)
{
    struct timespec deadline;
    bool is_stopped = true;
    for (unsigned i = 0; i < count; i++)
        pthread_cancel(workers[i].thread);
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += STOP_SECONDS;
    for (unsigned i = 0; i < count; i++) {
        if (pthread_timedjoin_np(workers[i].thread, NULL, &deadline) == 0)
            free(workers[i].buf.mem);
        else
            is_stopped = false;
    }
    return is_stopped;
}

/* Serves until a signal, or until the kernel unmounts, and unmounts. */
static int serve(const shobjfs *fs, const sigset_t *signals)
{
    struct fuse_session *session = fs->session;
    worker workers[WORKERS_MAX];
    unsigned count = 0;
    int code = EXIT_DONE;
    int signal_number;
    for (unsigned wanted = worker_count(); count < wanted; count++) {
        workers[count] = (worker){.main = pthread_self(), .session = session, .store = fs->store};
        int error = pthread_create(&workers[count].thread, NULL, work, &workers[count]);
        if (error != 0) {
            say("starting a thread: %s", strerror(error));
            code = EXIT_REFUSED;
            break;
        }
    }
    if (code == EXIT_DONE)
        sigwait(signals, &signal_number);
    fuse_session_exit(session);
    bool is_stopped = stop_workers(workers, count);
    fuse_session_unmount(session);
    if (!is_stopped) {
        /* What the thread is using can't be freed under it. */
        say("a request was still under way at the end");
        _exit(code);
    }
    for (unsigned i = 0; i < count; i++) {
        if (workers[i].error < 0 && code == EXIT_DONE) {
            say("asking the kernel for requests: %s", strerror(-workers[i].error));
            code = EXIT_REFUSED;
        }
    }
    return code;
}

/* ---- mounting */

/* The real path of a usable folder, malloc()ed. */
static int find_folder(const char *dir, char **ret_path)
{
    struct stat attr;
    char *path = realpath(dir, NULL);
    if (path == NULL || stat(path, &attr) != 0) {
        if (errno == ENOTCONN)
            say("%s: an earlier mount ended without being unmounted: run 'fusermount3 -u %s' first", dir, dir);
        else
            say("%s: %s", dir, strerror(errno));
    } else if (!S_ISDIR(attr.st_mode)) {
        say("%s: this is not a folder to mount on", dir);
    } else {
        *ret_path = path;
        return EXIT_DONE;
    }
    free(path);
    return EXIT_STORE;
}

static int open_store(const char *name, shobjfs *fs)
{
    struct stat attr;
    const shobj_options options = {.mode = SHOBJ_OPEN_READ};
    int rc = shobj_open(name, &options, &fs->store);
    if (rc < 0) {
        say("%s", shobj_error_message());
        return errors[error_row(rc)].exit_code;
    }
    if (stat(shobj_path(fs->store), &attr) != 0) {
        say("%s: %s", shobj_path(fs->store), strerror(errno));
        return EXIT_STORE;
    }
    fs->uid = attr.st_uid;
    fs->gid = attr.st_gid;
    fs->file_mode = attr.st_mode & 0444;
    fs->dir_mode = fs->file_mode | fs->file_mode >> 2;
    fs->time = attr.st_mtim;
    fs->inodes = inodes_create();
    if (fs->inodes == NULL) {
        say("out of memory");
        return EXIT_FULL;
    }
    return EXIT_DONE;
}

static int create_session(shobjfs *fs)
{
    char *options = NULL;
    char *name = NULL;
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    bool is_done =
        fuse_opt_add_arg(&args, "shobjfs") == 0 &&
        fuse_opt_add_opt(&options, "ro,nosuid,nodev,noexec,noatime,default_permissions,subtype=shobjfs") == 0 &&
        asprintf(&name, "fsname=%s", shobj_path(fs->store)) > 0 && fuse_opt_add_opt_escaped(&options, name) == 0 &&
        fuse_opt_add_arg(&args, "-o") == 0 && fuse_opt_add_arg(&args, options) == 0;
    if (is_done)
        fs->session = fuse_session_new(&args, &shobjfs_ops, sizeof(shobjfs_ops), fs);
    fuse_opt_free_args(&args);
    free(options);
    free(name);
    if (fs->session != NULL)
        return EXIT_DONE;
    say("the file system could not be prepared");
    return EXIT_REFUSED;
}

static int mount_and_serve(shobjfs *fs, const char *path)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    sigaddset(&signals, SIGUSR1); /* a worker has ended */
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    if (access("/dev/fuse", F_OK) != 0) {
        say("there is no /dev/fuse: load the kernel's module (modprobe fuse), or give the container this device");
        return EXIT_REFUSED;
    }
    int code = create_session(fs);
    if (code == EXIT_DONE && fuse_session_mount(fs->session, path) != 0) {
        say("%s: the store could not be mounted there", path);
        code = EXIT_REFUSED;
    } else if (code == EXIT_DONE) {
        code = serve(fs, &signals);
    }
    if (fs->session != NULL)
        fuse_session_destroy(fs->session);
    return code;
}

int main(int argc, char **argv)
{
    command_line line = {0};
    shobjfs fs = {.ready = ready};
    char *path = NULL;
    bool is_done;
    fuse_set_log_func(log_message);
    openlog("shobjfs", LOG_PID, LOG_DAEMON);
    int code = parse(argc, argv, &line, &is_done);
    if (is_done)
        return code;
    if (!line.is_foreground && !enter_background(&code))
        return code;
    fs.timeout = line.timeout;
    code = open_store(line.store, &fs);
    if (code == EXIT_DONE)
        code = find_folder(line.dir, &path);
    if (code == EXIT_DONE)
        code = mount_and_serve(&fs, path);
    free(path);
    inodes_destroy(fs.inodes);
    shobj_close(fs.store);
    return code;
}
