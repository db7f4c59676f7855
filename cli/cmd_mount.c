/*
 * cmd_mount.c: mount and umount. The file system itself is the program shobjfs, which stays behind in the background.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "target.h"

#define FS_PROGRAM "shobjfs"

/* Beside this program, where it is really, or in PATH (a name without '/' makes execvp look there). */
static void find_program(char ret_path[PATH_MAX])
{
    char self[PATH_MAX];
    ssize_t bytes = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (bytes > 0) {
        self[bytes] = '\0';
        char *slash = strrchr(self, '/');
        *slash = '\0';
        if (snprintf(ret_path, PATH_MAX, "%s/%s", self, FS_PROGRAM) < PATH_MAX && access(ret_path, X_OK) == 0)
            return;
    }
    memcpy(ret_path, FS_PROGRAM, sizeof(FS_PROGRAM));
}

/* Undoes \ooo, as mountinfo writes blanks and backslashes. */
static void unescape(char *text)
{
    char *to = text;
    for (const char *at = text; *at != '\0'; to++) {
        if (at[0] == '\\' && at[1] >= '0' && at[1] <= '3' && at[2] != '\0' && at[3] != '\0') {
            *to = (char)((at[1] - '0') << 6 | (at[2] - '0') << 3 | (at[3] - '0'));
            at += 4;
        } else {
            *to = *at++;
        }
    }
    *to = '\0';
}

/* The type of what is mounted last on a folder, given by its real path; "" if nothing is. */
static void mounted_type(const char *folder, char ret_type[64])
{
    char *line = NULL;
    size_t room = 0;
    FILE *file = fopen("/proc/self/mountinfo", "re");
    ret_type[0] = '\0';
    while (file != NULL && getline(&line, &room, file) > 0) {
        char *point = line;
        for (int field = 0; point != NULL && field < 4; field++) {
            point = strchr(point, ' ');
            point = point != NULL ? point + 1 : NULL;
        }
        char *rest = point != NULL ? strchr(point, ' ') : NULL;
        char *type = rest != NULL ? strstr(rest, " - ") : NULL;
        if (type == NULL)
            continue;
        *rest = '\0';
        unescape(point);
        if (strcmp(point, folder) == 0)
            snprintf(ret_type, 64, "%.*s", (int)strcspn(type + 3, " \n"), type + 3);
    }
    free(line);
    if (file != NULL)
        fclose(file);
}

static bool is_ours(const char *folder)
{
    char type[64];
    mounted_type(folder, type);
    return strcmp(type, "fuse." FS_PROGRAM) == 0;
}

/* A mount whose file system has died can't be resolved, only its parent. */
static bool real_folder(const char *folder, char ret_path[PATH_MAX])
{
    if (realpath(folder, ret_path) != NULL)
        return true;
    if (errno != ENOTCONN)
        return false;
    char copy[PATH_MAX];
    char parent[PATH_MAX];
    if (snprintf(copy, sizeof(copy), "%s", folder) >= (int)sizeof(copy))
        return false;
    size_t bytes = strlen(copy);
    while (bytes > 1 && copy[bytes - 1] == '/')
        copy[--bytes] = '\0';
    char *slash = strrchr(copy, '/');
    const char *name = slash != NULL ? slash + 1 : copy;
    if (slash != NULL)
        *slash = '\0';
    if (realpath(slash == NULL ? "." : slash == copy ? "/" : copy, parent) == NULL)
        return false;
    return snprintf(ret_path, PATH_MAX, "%s/%s", strcmp(parent, "/") == 0 ? "" : parent, name) < PATH_MAX;
}

/* Runs a program to its end. With `ret_said` not NULL its standard error goes there, as one line, instead of to ours. */
static int run_and_wait(char *const argv[], char *ret_said, size_t said_bytes, int *ret_status)
{
    int ends[2] = {-1, -1};
    if (ret_said != NULL && pipe2(ends, O_CLOEXEC) != 0)
        return -1;
    pid_t child = fork();
    if (child == 0) {
        if (ret_said != NULL)
            dup2(ends[1], STDERR_FILENO);
        execvp(argv[0], argv);
        _exit(127);
    }
    if (ret_said != NULL) {
        close(ends[1]);
        size_t used = 0;
        ssize_t got = 0;
        while (child > 0 && used + 1 < said_bytes &&
               ((got = read(ends[0], ret_said + used, said_bytes - used - 1)) > 0 || (got < 0 && errno == EINTR)))
            used += got > 0 ? (size_t)got : 0;
        ret_said[used] = '\0';
        ret_said[strcspn(ret_said, "\n")] = '\0';
        close(ends[0]);
    }
    if (child < 0)
        return -1;
    while (waitpid(child, ret_status, 0) < 0) {
        if (errno != EINTR)
            return -1;
    }
    return 0;
}

/* The exit code for the end of shobjfs: its own ones are those of this command, and it has said why. */
static int mount_code(const struct call *call, const char *folder, int status)
{
    if (!WIFEXITED(status))
        return fail_text(call, SHOBJ_EIO, "%s: " FS_PROGRAM " was killed (%s)", folder, strsignal(WTERMSIG(status)));
    if (WEXITSTATUS(status) == 127)
        return fail_text(call, SHOBJ_EIO, FS_PROGRAM " is missing: it belongs beside shobj, or in PATH");
    if (WEXITSTATUS(status) > EXIT_REFUSED)
        return fail_text(call, SHOBJ_EIO, "%s: " FS_PROGRAM " ended with exit code %d, which is none of its own", folder,
                         WEXITSTATUS(status));
    if (WEXITSTATUS(status) == EXIT_DONE && !is_ours(folder))
        return fail_text(call, SHOBJ_EIO, "%s: " FS_PROGRAM " ended without mounting", folder);
    return WEXITSTATUS(status);
}

/* shobjfs returns when it serves in the background. */
int cmd_mount(const struct call *call)
{
    struct target target;
    char folder[PATH_MAX];
    char program[PATH_MAX];
    struct stat file;
    int code = target_open_store(call, call->operands[0], SHOBJ_OPEN_READ, &target);
    if (code != EXIT_DONE)
        return code;
    char *store = strdup(shobj_path(target.store));
    target_close(&target);
    if (store == NULL)
        return fail_errno(call, "mounting");
    if (stat(call->operands[1], &file) != 0) {
        code = fail_errno(call, call->operands[1]);
    } else if (!S_ISDIR(file.st_mode)) {
        errno = ENOTDIR;
        code = fail_errno(call, call->operands[1]);
    } else if (real_folder(call->operands[1], folder) && is_ours(folder)) {
        code = fail_text(call, SHOBJ_EBUSY, "%s: a store is mounted there already", folder);
    }
    if (code != EXIT_DONE) {
        free(store);
        return code;
    }
    find_program(program);
    char *options = (char *)call_option(call, "options");
    char *argv[] = {program, store, folder, options != NULL ? "-o" : NULL, options, NULL};
    int status;
    if (run_and_wait(argv, NULL, 0, &status) != 0)
        code = fail_errno(call, "starting " FS_PROGRAM);
    else
        code = mount_code(call, folder, status);
    if (code == EXIT_DONE && call->json) {
        fputs("{\"mounted\": ", stdout);
        out_json_str(folder);
        fputs("}\n", stdout);
    }
    free(store);
    return code;
}

int cmd_umount(const struct call *call)
{
    char folder[PATH_MAX];
    if (!real_folder(call->operands[0], folder))
        return fail_errno(call, call->operands[0]);
    if (!is_ours(folder))
        return fail_text(call, SHOBJ_EIO, "%s: no store is mounted there", folder);
    char *argv[] = {"fusermount3", "-u", "--", folder, NULL};
    char said[300];
    int status;
    if (run_and_wait(argv, said, sizeof(said), &status) != 0)
        return fail_errno(call, "starting fusermount3");
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        return fail_text(call, SHOBJ_EIO, "fusermount3 is missing: install fuse3");
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return fail_text(call, SHOBJ_EBUSY,
                         "%s; a mount that is in use ends when its files are closed and its folders left", said);
    if (call->json) {
        fputs("{\"unmounted\": ", stdout);
        out_json_str(folder);
        fputs("}\n", stdout);
    }
    return EXIT_DONE;
}
