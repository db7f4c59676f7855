/*
 * bank.c: several processes move money between accounts that they share; one adds all of them up.
 *
 *     cc bank.c $(pkg-config --cflags --libs shobj) -o bank
 *     ./bank [STORE [PROCESSES [TRANSFERS]]]
 *
 * Each account is a dict {"owner": str, "balance": int} in a list under the key "accounts" of the root. A transfer is
 * a transaction: both balances change at one instant, or neither does. Whoever adds all balances up in a transaction
 * gets the same sum at any time, whatever the others do meanwhile.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shobj.h>

enum { ACCOUNTS = 64, OPENING_BALANCE = 1000 };

static void fail_if(int rc, const char *what)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "bank: %s: %s\n", what, shobj_error_message());
    exit(EXIT_FAILURE);
}

static shobj_value int_value(int64_t i)
{
    return (shobj_value){.type = SHOBJ_INT, .i = i};
}

static shobj_value str_value(const char *text)
{
    return (shobj_value){.type = SHOBJ_STR, .data = text, .count = strlen(text)};
}

/* One transaction's arguments and results. Bodies may run more than once: they only assign to what they return. */
struct job {
    shobj_oid accounts;
    shobj_key balance; /* the key "balance", made ready once */
    int64_t from, to, amount;
    int64_t sum;
};

static int balance_of(shobj_store *store, const struct job *job, int64_t index, shobj_oid *ret_account, int64_t *ret_sum)
{
    shobj_value account, balance;
    int rc = shobj_list_get(store, job->accounts, index, &account);
    if (rc < 0)
        return rc;
    rc = shobj_dict_get(store, account.oid, &job->balance, &balance);
    if (rc < 0)
        return rc;
    *ret_account = account.oid;
    *ret_sum = balance.i;
    return 0;
}

/* The body of a transaction: an error from a call is handed on, and the transaction is run again if it was a conflict. */
static int transfer(shobj_store *store, void *arg)
{
    const struct job *job = arg;
    shobj_oid from, to;
    int64_t from_sum, to_sum;

    int rc = balance_of(store, job, job->from, &from, &from_sum);
    if (rc < 0)
        return rc;
    rc = balance_of(store, job, job->to, &to, &to_sum);
    if (rc < 0)
        return rc;
    if (from_sum < job->amount)
        return 0; /* too poor: nothing moves */
    shobj_value from_value = int_value(from_sum - job->amount), to_value = int_value(to_sum + job->amount);
    rc = shobj_dict_set(store, from, &job->balance, &from_value);
    if (rc < 0)
        return rc;
    return shobj_dict_set(store, to, &job->balance, &to_value);
}

static int add_up(shobj_store *store, void *arg)
{
    struct job *job = arg;
    int64_t sum = 0;

    for (int64_t index = 0; index < ACCOUNTS; index++) {
        shobj_oid account;
        int64_t balance;
        int rc = balance_of(store, job, index, &account, &balance);
        if (rc < 0)
            return rc;
        sum += balance;
    }
    job->sum = sum;
    return 0;
}

/* Opens the bank in a new store and returns the id of its list of accounts. */
static shobj_oid found_bank(shobj_store *store)
{
    shobj_oid accounts;
    fail_if(shobj_list_new(store, NULL, 0, &accounts), "making the list of accounts");
    for (int i = 0; i < ACCOUNTS; i++) {
        char owner[32];
        snprintf(owner, sizeof(owner), "customer %d", i);
        const shobj_item fields[] = {{str_value("owner"), str_value(owner)},
                                     {str_value("balance"), int_value(OPENING_BALANCE)}};
        shobj_oid account;
        fail_if(shobj_dict_new(store, fields, 2, &account), "opening an account");
        shobj_value value = {.type = SHOBJ_OBJECT, .oid = account};
        fail_if(shobj_list_append(store, accounts, &value), "adding an account");
    }
    shobj_value value = {.type = SHOBJ_OBJECT, .oid = accounts};
    fail_if(shobj_path_set(store, "/accounts", &value), "storing the accounts");
    return accounts;
}

static struct job new_job(shobj_store *store, shobj_oid accounts)
{
    struct job job = {.accounts = accounts};
    static shobj_value name; /* a key points to what its value points to */
    name = str_value("balance");
    fail_if(shobj_key_init(store, &name, &job.balance), "making a key");
    return job;
}

/* The life of one process that moves money. The handle it inherited goes on working after the fork. */
static void teller(shobj_store *store, shobj_oid accounts, unsigned seed, long transfers)
{
    struct job job = new_job(store, accounts);
    srandom(seed);
    for (long i = 0; i < transfers; i++) {
        job.from = random() % ACCOUNTS;
        job.to = (job.from + 1 + random() % (ACCOUNTS - 1)) % ACCOUNTS;
        job.amount = 1 + random() % 100;
        fail_if(shobj_run(store, transfer, &job), "moving money");
    }
}

static long positive(const char *text, const char *what)
{
    char *end;
    long number = strtol(text, &end, 10);
    if (*end != '\0' || number <= 0) {
        fprintf(stderr, "bank: %s must be a positive number, not '%s'\n"
                        "usage: bank [STORE [PROCESSES [TRANSFERS]]]\n", what, text);
        exit(2);
    }
    return number;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "example-bank";
    long processes = argc > 2 ? positive(argv[2], "PROCESSES") : 4;
    long transfers = argc > 3 ? positive(argv[3], "TRANSFERS") : 20000;

    shobj_store *store;
    fail_if(shobj_open(name, &(shobj_options){.mode = SHOBJ_OPEN_EXCL}, &store), "creating the store");
    shobj_oid accounts = found_bank(store);

    for (long i = 0; i < processes; i++) {
        pid_t pid = fork();
        if (pid < 0) {
            perror("bank: fork");
            return EXIT_FAILURE;
        }
        if (pid == 0) {
            teller(store, accounts, (unsigned)i + 1, transfers);
            shobj_close(store);
            _exit(EXIT_SUCCESS);
        }
    }

    struct job audit = new_job(store, accounts);
    int failures = 0;
    long audits = 0;
    for (long ended = 0; ended < processes;) {
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid > 0) {
            ended++;
            failures += !WIFEXITED(status) || WEXITSTATUS(status) != EXIT_SUCCESS;
        }
        fail_if(shobj_run(store, add_up, &audit), "adding the balances up");
        audits++;
        if (audit.sum != (int64_t)ACCOUNTS * OPENING_BALANCE) {
            fprintf(stderr, "bank: the balances add up to %" PRId64 ", not to %d\n", audit.sum,
                    ACCOUNTS * OPENING_BALANCE);
            failures++;
            break;
        }
    }

    shobj_stat stat;
    fail_if(shobj_stat_get(store, &stat), "reading the counters");
    printf("%ld processes made %ld transfers; %ld audits found %d each time; %" PRIu64 " attempts lost and ran again\n",
           processes, processes * transfers, audits, ACCOUNTS * OPENING_BALANCE, stat.conflicts);
    shobj_close(store);
    fail_if(shobj_unlink(name, true), "removing the store");
    return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
