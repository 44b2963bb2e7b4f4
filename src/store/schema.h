/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The tables of a file of records. `records` has a row for each range of tasks that ended alike,
 * with numbers as they are in memory; the view that others read has a row a task, with the columns
 * and texts that ipyparallel has. docs/records.md describes both. */
#ifndef COVEY_STORE_SCHEMA_H
#define COVEY_STORE_SCHEMA_H

#define SCHEMA_APPLICATION 0x436f7665 /* "Cove" */
#define SCHEMA_VERSION 1

#define SCHEMA_TABLES                                                                              \
    "CREATE TABLE records("                                                                        \
    "id INTEGER PRIMARY KEY, session INTEGER NOT NULL, lo INTEGER NOT NULL, hi INTEGER NOT NULL, " \
    "origin INTEGER, kind INTEGER, mode INTEGER, flags INTEGER, target INTEGER, "                  \
    "submitted INTEGER, label TEXT, route BLOB, status INTEGER, attempt INTEGER, engine INTEGER, " \
    "incarnation INTEGER, engine_uuid TEXT, started INTEGER, completed INTEGER, "                  \
    "received INTEGER, first INTEGER, count INTEGER, again_session INTEGER, again_seq INTEGER, "   \
    "output_cut INTEGER, stdout TEXT, stderr TEXT, call BLOB, result BLOB);"                       \
    "CREATE UNIQUE INDEX records_by_task ON records(session, lo);"                                 \
    "CREATE INDEX records_pending ON records(id) WHERE status IS NULL;"                            \
    "CREATE INDEX records_of_many ON records(id) WHERE hi > lo + 1;"

/* For questions (dbplan.h); made in older files, too, when they are opened. */
#define SCHEMA_INDEXES                                                                             \
    "CREATE INDEX IF NOT EXISTS records_by_submitted ON records(submitted);"                       \
    "CREATE INDEX IF NOT EXISTS records_by_completed ON records(completed);"                       \
    "CREATE INDEX IF NOT EXISTS records_by_engine ON records(engine_uuid, completed);"             \
    "CREATE INDEX IF NOT EXISTS records_failed ON records(id) WHERE status > 0;"

/* ISO 8601 with microseconds; NULL for 0. */
#define SCHEMA_TIME(column)                                                                        \
    "CASE WHEN " column " > 0 THEN strftime('%Y-%m-%dT%H:%M:%S', " column                          \
    " / 1000000000, 'unixepoch') || printf('.%06d+00:00', " column " / 1000 % 1000000) END"

#define SCHEMA_MSG_ID(session, seq) "printf('%016x_%d', " session ", " seq ")"

#define SCHEMA_KIND "CASE kind WHEN 1 THEN 'execute' ELSE 'apply' END"
#define SCHEMA_OUTCOME                                                                             \
    "CASE WHEN status IS NULL THEN NULL WHEN status = 0 THEN 'ok' WHEN status IN (2, 3) THEN "     \
    "'aborted' ELSE 'error' END"

/* As JSON; the rest of how a task was submitted is in `route`, in a form that SQL can't read. */
#define SCHEMA_METADATA                                                                            \
    "'{\"label\": ' || coalesce('\"' || replace(replace(replace(replace(replace(label, "           \
    "'\\', '\\\\'), '\"', '\\\"'), char(9), '\\t'), char(10), '\\n'), char(13), '\\r') || '\"', "  \
    "'null') || '}'"

/* By hand, a column a line: clang-format breaks strings where they are put together. */
/* clang-format off */
#define SCHEMA_HEADER(seq)                                                                         \
    "printf('{\"msg_id\": \"%s\", \"msg_type\": \"%s_request\", \"session\": \"%016x\", "          \
    "\"date\": \"%s\"}', " SCHEMA_MSG_ID("session", seq) ", " SCHEMA_KIND ", session, "            \
    SCHEMA_TIME("submitted") ")"
#define SCHEMA_RESULT_HEADER                                                                       \
    "CASE WHEN status IS NOT NULL THEN printf('{\"msg_type\": \"%s_reply\", \"date\": \"%s\"}', "  \
    SCHEMA_KIND ", " SCHEMA_TIME("completed") ") END"
#define SCHEMA_RESULT_METADATA                                                                     \
    "CASE WHEN status IS NOT NULL THEN printf('{\"engine\": \"%s\", \"status\": \"%s\", "          \
    "\"started\": \"%s\"}', engine_uuid, " SCHEMA_OUTCOME ", " SCHEMA_TIME("started") ") END"

/* The columns of the view for the item `seq` of a row. */
#define SCHEMA_COLUMNS(seq)                                                                        \
    SCHEMA_MSG_ID("session", seq) " AS msg_id, "                                                   \
    SCHEMA_HEADER(seq) " AS header, "                                                              \
    SCHEMA_METADATA " AS metadata, "                                                               \
    "'{}' AS content, call AS buffers, "                                                           \
    SCHEMA_TIME("submitted") " AS submitted, "                                                     \
    "printf('%016x', session) AS client_uuid, engine_uuid, "                                       \
    SCHEMA_TIME("started") " AS started, "                                                         \
    SCHEMA_TIME("completed") " AS completed, "                                                     \
    "CASE WHEN again_seq > 0 THEN " SCHEMA_MSG_ID("again_session", "again_seq") " END "            \
    "AS resubmitted, "                                                                             \
    SCHEMA_TIME("received") " AS received, "                                                       \
    SCHEMA_RESULT_HEADER " AS result_header, "                                                     \
    SCHEMA_RESULT_METADATA " AS result_metadata, "                                                 \
    "CASE WHEN status IS NOT NULL THEN printf('{\"status\": \"%s\"}', " SCHEMA_OUTCOME ") END "    \
    "AS result_content, "                                                                          \
    "result AS result_buffers, "                                                                   \
    "CASE mode WHEN 0 THEN 'task' ELSE 'mux' END AS queue, "                                       \
    "CASE kind WHEN 1 THEN CAST(substr(call, 10, length(call) - 11) AS TEXT) END "                 \
    "AS execute_input, "                                                                           \
    "NULL AS execute_result, NULL AS error, "                                                      \
    "coalesce(stdout, '') AS stdout, coalesce(stderr, '') AS stderr, label"
/* clang-format on */

/* What follows CREATE VIEW name AS. */
#define SCHEMA_VIEW                                                                                \
    "SELECT " SCHEMA_COLUMNS("lo") " FROM records WHERE hi = lo + 1 UNION ALL "                    \
                                   "SELECT " SCHEMA_COLUMNS(                                       \
                                       "seq") " FROM (WITH RECURSIVE items(row, seq, last) AS "    \
                                              "(SELECT id, lo, hi FROM records "                   \
                                              "WHERE hi > lo + 1 UNION ALL SELECT row, seq + 1, "  \
                                              "last FROM items WHERE seq + 1 < last) "             \
                                              "SELECT * FROM items) JOIN records ON records.id = " \
                                              "row;"

#endif
