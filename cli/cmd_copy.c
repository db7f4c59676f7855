/*
 * cmd_copy.c: copy. The store's exact dump, read as of one instant, is loaded into a new store in one transaction: objects keep
 * their sharing and cycles and get new ids, and the new heap holds nothing else. Until it is whole, the new store is empty; if
 * something goes wrong, it is removed.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "json_load.h"
#include "target.h"

static int write_file(const char *text, size_t bytes, void *arg)
{
    return fwrite(text, 1, bytes, arg) < bytes || interrupted ? SHOBJ_EIO : 0;
}

/* May run more than once. */
static int dump_body(shobj_store *store, void *arg)
{
    FILE *file = arg;
    shobj_value root;
    errno = 0;
    rewind(file);
    if (ftruncate(fileno(file), 0) != 0)
        return SHOBJ_EIO;
    int rc = shobj_path_get(store, "", &root);
    if (rc == 0)
        rc = shobj_render(store, &root, SHOBJ_FORM_DUMP, 0, 0, write_file, file);
    return rc == 0 && fflush(file) != 0 ? SHOBJ_EIO : rc;
}

static int load(const struct call *call, const struct target *target, FILE *file)
{
    json_input input = {.fd = fileno(file)};
    json_load load = {.input = &input, .path = ""};
    if (fseek(file, 0, SEEK_END) != 0)
        return fail_errno(call, "reading the dump of a store");
    input.bytes = (uint64_t)ftell(file);
    int rc = target_run(target, json_load_body, &load);
    if (rc < 0)
        return load.error[0] != '\0' ? fail_text(call, rc, "the copy, %s", load.error) : target_fail(call, rc);
    if (call->json)
        printf("{\"bytes\": %" PRIu64 "}\n", input.bytes);
    return EXIT_DONE;
}

static int create(const struct call *call, shobj_store *from, struct target *ret)
{
    shobj_options options = {.mode = SHOBJ_OPEN_EXCL, .wait_interrupted = patience_is_interrupted};
    shobj_stat stat;
    int code = read_create_options(call, &options);
    if (code != EXIT_DONE)
        return code;
    int rc = options.max_size == 0 ? shobj_stat_get(from, &stat) : 0;
    if (rc == 0 && options.max_size == 0)
        options.max_size = stat.max_bytes;
    if (rc == 0)
        rc = shobj_open(call->operands[1], &options, &ret->store);
    if (rc < 0)
        return fail(call, rc);
    ret->path = "";
    ret->is_owned = true;
    return EXIT_DONE;
}

static int copy(const struct call *call, const struct target *from, FILE *file)
{
    struct target to = {0};
    shobj_gc gc;
    int code = create(call, from->store, &to);
    if (code != EXIT_DONE)
        return code;
    int rc = target_run(from, dump_body, file);
    if (rc == SHOBJ_EIO && errno != 0)
        code = fail_errno(call, "writing the dump of a store to a temporary file");
    else if (rc < 0)
        code = target_fail(call, rc);
    else
        code = load(call, &to, file);
    if (code == EXIT_DONE) {
        shobj_gc_get(from->store, &gc);
        shobj_gc_growth(to.store, gc.growth);
    } else {
        shobj_unlink(shobj_path(to.store), true);
    }
    target_close(&to);
    return code;
}

int cmd_copy(const struct call *call)
{
    struct target from;
    if (strchr(call->operands[1], ':') != NULL && strchr(call->operands[1], '/') == NULL)
        return fail_usage(call, "'%s': give the new store's name, without a path", call->operands[1]);
    int code = target_open_store(call, call->operands[0], SHOBJ_OPEN_READ, &from);
    if (code != EXIT_DONE)
        return code;
    FILE *file = tmpfile();
    code = file != NULL ? copy(call, &from, file) : fail_errno(call, "making a temporary file");
    if (file != NULL)
        fclose(file);
    target_close(&from);
    return code;
}
