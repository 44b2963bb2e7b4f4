/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Opening the file of records: whose it is, whether it is ours, and what is done when it is not.
 * See dbfile.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/file.h"
#include "store/dbpriv.h"
#include "store/schema.h"

#define BUSY_MS 5000         /* somebody else reads or writes */
#define ROOM_MIN (16l << 20) /* bytes on the disk below which going on is not tried */
#define ASIDE_MAX 1000

int db_error(struct dbfile *f, struct err *e, int code)
{
    int kind = code & 0xff, ret = CV_ESYS;

    if (kind == SQLITE_CORRUPT || kind == SQLITE_NOTADB)
        ret = CV_EPROTO;
    else if (kind == SQLITE_NOMEM)
        ret = CV_ENOMEM;
    return err_set(e, ret, "%s: %s", f->path, f->db ? sqlite3_errmsg(f->db) : sqlite3_errstr(code));
}

int db_exec(struct dbfile *f, const char *sql, struct err *e)
{
    int r = sqlite3_exec(f->db, sql, NULL, NULL, NULL);

    return r == SQLITE_OK ? CV_OK : db_error(f, e, r);
}

int db_prepare(struct dbfile *f, const char *sql, sqlite3_stmt **ret, struct err *e)
{
    int r = sqlite3_prepare_v3(f->db, sql, -1, SQLITE_PREPARE_PERSISTENT, ret, NULL);

    return r == SQLITE_OK ? CV_OK : db_error(f, e, r);
}

int db_number(struct dbfile *f, const char *sql, int64_t *ret, struct err *e)
{
    sqlite3_stmt *s = NULL;
    int code = db_prepare(f, sql, &s, e), r;

    if (code != CV_OK)
        return code;
    r = sqlite3_step(s);
    if (r == SQLITE_ROW)
        *ret = sqlite3_column_int64(s, 0);
    else if (r != SQLITE_DONE)
        code = db_error(f, e, r);
    sqlite3_finalize(s);
    return code;
}

/* --- whose it is --- */

static void say_owner(const char *path, int fd, struct err *e)
{
    char text[128] = "";
    ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

    text[n > 0 ? n : 0] = 0;
    text[strcspn(text, "\n")] = 0;
    err_set(e, CV_EAGAIN,
            "%s is used by another controller (%s). Give each its own: --SQLiteDB.filename=NAME",
            path, *text ? text : "of which nothing is known");
}

/* The lock lasts as long as its descriptor; the file is removed by who holds it. */
static int lock_owner(struct dbfile *f, struct err *e)
{
    struct stat held, named;
    char text[128], host[64] = "?";

    for (;;) {
        f->owner_fd = open(f->owner_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (f->owner_fd < 0)
            return err_sys(e, "can't write %s, which says who uses the task records",
                           f->owner_path);
        if (flock(f->owner_fd, LOCK_EX | LOCK_NB) < 0) {
            if (errno != EWOULDBLOCK)
                return err_sys(e, "can't lock %s", f->owner_path);
            say_owner(f->path, f->owner_fd, e);
            return CV_EAGAIN;
        }
        /* the one who held it may have removed it meanwhile */
        if (fstat(f->owner_fd, &held) == 0 && stat(f->owner_path, &named) == 0 &&
            held.st_ino == named.st_ino && held.st_dev == named.st_dev)
            break;
        close(f->owner_fd);
    }
    f->owner = true;
    gethostname(host, sizeof(host) - 1);
    int n = snprintf(text, sizeof(text), "pid %d on %s\n", (int)getpid(), host);
    if (ftruncate(f->owner_fd, 0) < 0 || pwrite(f->owner_fd, text, (size_t)n, 0) < 0)
        errno = 0; /* a full disk: the lock holds all the same */
    return CV_OK;
}

/* --- whether it is ours --- */

enum whose { WHOSE_OURS, WHOSE_EMPTY, WHOSE_STOCK, WHOSE_OTHER };

/* Of a file that is cut short SQLite says nothing but that it is damaged: its header says whose it
 * was. */
static bool header_is_ours(const char *path)
{
    static const char magic[16] = "SQLite format 3";
    uint8_t head[72];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? pread(fd, head, sizeof(head), 0) : -1;

    if (fd >= 0)
        close(fd);
    return n == (ssize_t)sizeof(head) && !memcmp(head, magic, sizeof(magic)) &&
           ((uint32_t)head[68] << 24 | head[69] << 16 | head[70] << 8 | head[71]) ==
               SCHEMA_APPLICATION;
}

static int find_whose(struct dbfile *f, enum whose *ret, struct err *e)
{
    int64_t application = 0, version = 0, things = 0, stock = 0;
    int r = db_number(f, "PRAGMA application_id", &application, e);

    if (r == CV_OK)
        r = db_number(f, "PRAGMA user_version", &version, e);
    if (r == CV_OK)
        r = db_number(f, "SELECT count(*) FROM sqlite_master", &things, e);
    if (r == CV_EPROTO && application != SCHEMA_APPLICATION && !header_is_ours(f->path))
        return err_set(e, CV_EINVAL,
                       "%s is not an SQLite database or is damaged. Move it away, or name another "
                       "file: --SQLiteDB.filename=NAME",
                       f->path);
    if (r != CV_OK)
        return r;
    if (application == SCHEMA_APPLICATION && things) {
        *ret = WHOSE_OURS;
        return version == SCHEMA_VERSION
                   ? CV_OK
                   : err_set(e, CV_EINVAL,
                             "%s has the records of another version (%lld, this one has %d). Name "
                             "another file: --SQLiteDB.filename=NAME",
                             f->path, (long long)version, SCHEMA_VERSION);
    }
    r = db_number(f,
                  "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND sql LIKE "
                  "'%msg_id%' AND sql LIKE '%result_header%'",
                  &stock, e);
    *ret = !things ? WHOSE_EMPTY : stock ? WHOSE_STOCK : WHOSE_OTHER;
    return r;
}

/* Renames the file and what belongs to it. ret_note gets the sentence. */
static int put_aside(struct dbfile *f, const char *word, const char *why, char **ret_note,
                     struct err *e)
{
    static const char *const parts[] = {"", "-wal", "-shm", "-journal"};
    char *to = NULL;
    struct stat st;

    sqlite3_close(f->db);
    f->db = NULL;
    for (int n = 1; n < ASIDE_MAX; n++) {
        free(to);
        to = str_printf("%s.%s-%d", f->path, word, n);
        if (!to)
            return CV_ENOMEM;
        if (lstat(to, &st) < 0)
            break;
    }
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        char *a = str_printf("%s%s", f->path, parts[i]), *b = str_printf("%s%s", to, parts[i]);
        int r = a && b ? rename(a, b) : -1;
        free(a);
        free(b);
        if (r < 0 && i == 0) {
            r = err_sys(e, "%s %s and can't be renamed", f->path, why);
            free(to);
            return r;
        }
    }
    free(*ret_note);
    *ret_note = str_printf("%s %s: it is %s now, and a new file was begun", f->path, why, to);
    free(to);
    return CV_OK;
}

static int open_file(struct dbfile *f, struct err *e)
{
    int fd = open(f->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600); /* results are nobody else's */

    if (fd < 0)
        return err_sys(e, "can't write the task records %s", f->path);
    close(fd);
    int r = sqlite3_open_v2(f->path, &f->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (r != SQLITE_OK)
        return db_error(f, e, r);
    sqlite3_extended_result_codes(f->db, 1);
    sqlite3_busy_timeout(f->db, BUSY_MS);
    return CV_OK;
}

/* A write-ahead log needs shared memory between its readers, which no network file system has. */
static bool is_remote(const char *path)
{
    static const unsigned long remote[] = {0x6969,     0x0bd00bd0, 0x47504653, 0xff534d42,
                                           0xfe534d42, 0x65735546, 0x19830326, 0x517b};
    struct statfs s;

    if (statfs(path, &s) < 0)
        return false;
    for (size_t i = 0; i < sizeof(remote) / sizeof(remote[0]); i++)
        if (((unsigned long)s.f_type & 0xffffffff) == remote[i])
            return true;
    return false;
}

static int create_tables(struct dbfile *f, struct err *e)
{
    char *sql = sqlite3_mprintf("BEGIN IMMEDIATE; PRAGMA application_id = %d; PRAGMA user_version "
                                "= %d; %s COMMIT",
                                SCHEMA_APPLICATION, SCHEMA_VERSION, SCHEMA_TABLES);
    int r = sql ? db_exec(f, sql, e) : CV_ENOMEM;

    sqlite3_free(sql);
    return r;
}

static int set_up(struct dbfile *f, enum whose whose, const char *table, struct err *e)
{
    int64_t last = 0;
    char *view = sqlite3_mprintf("CREATE VIEW IF NOT EXISTS \"%w\" AS %s", table, SCHEMA_VIEW);
    int r = view ? CV_OK : CV_ENOMEM;

    if (r == CV_OK)
        r = db_exec(
            f, is_remote(f->path) ? "PRAGMA journal_mode = TRUNCATE" : "PRAGMA journal_mode = WAL",
            e);
    if (r == CV_OK)
        r = db_exec(f,
                    "PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 4000; "
                    "PRAGMA cache_size = -8000",
                    e);
    if (r == CV_OK && whose == WHOSE_EMPTY)
        r = create_tables(f, e);
    if (r == CV_OK)
        r = db_exec(f, SCHEMA_INDEXES, e);
    if (r == CV_OK)
        r = db_exec(f, view, e);
    /* what an earlier controller had not seen the end of */
    if (r == CV_OK && f->fresh)
        r = db_exec(f, "UPDATE records SET status = 9 WHERE status IS NULL", e);
    if (r == CV_OK)
        r = db_number(f, "SELECT id + hi - lo - 1 FROM records ORDER BY id DESC LIMIT 1", &last, e);
    f->last = (uint64_t)last;
    sqlite3_free(view);
    return r;
}

/* One attempt; *ret_again: something was put aside, the next one will do. */
static int try_open(struct dbfile *f, const char *table, char **ret_note, bool *ret_again,
                    struct err *e)
{
    enum whose whose = WHOSE_OTHER;
    int r = open_file(f, e);

    *ret_again = false;
    if (r == CV_OK)
        r = find_whose(f, &whose, e);
    if (r == CV_OK && whose == WHOSE_OTHER)
        return err_set(e, CV_EINVAL,
                       "%s is a database of something else. Name another file: "
                       "--SQLiteDB.filename=NAME",
                       f->path);
    if (r == CV_OK && whose == WHOSE_STOCK) {
        *ret_again = true;
        return put_aside(f, "ipyparallel", "has the records of ipyparallel", ret_note, e);
    }
    if (r == CV_OK)
        r = set_up(f, whose, table, e);
    if (r == CV_EPROTO) {
        *ret_again = true;
        r = put_aside(f, "damaged", "is damaged", ret_note, e);
    }
    return r;
}

int db_open(struct dbfile *f, const char *table, char **ret_note, struct err *e)
{
    char *slash = strrchr(f->path, '/');
    bool again = false;
    int r = CV_OK;

    if (slash && slash != f->path) {
        *slash = 0;
        r = file_mkdirs(f->path, 0700, e);
        *slash = '/';
    }
    if (r == CV_OK)
        r = lock_owner(f, e);
    if (r == CV_OK)
        r = try_open(f, table, ret_note, &again, e);
    if (r == CV_OK && again)
        r = try_open(f, table, ret_note, &again, e);
    return r;
}

/* A quota and a limit of a file's size are not to be seen, so room is taken and given back. */
bool dbfile_has_room(const char *path)
{
    char *probe = str_printf("%s-probe", path);
    if (probe)
        unlink(probe); /* of a controller that was killed here */
    int fd = probe ? open(probe, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1;
    bool ret = fd >= 0 && posix_fallocate(fd, 0, ROOM_MIN) == 0;

    if (fd >= 0) {
        close(fd);
        unlink(probe);
    }
    free(probe);
    return ret;
}
