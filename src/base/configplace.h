/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Which line of a config file a setting came from. */
#ifndef COVEY_BASE_CONFIGPLACE_H
#define COVEY_BASE_CONFIGPLACE_H

/* The line of the .py or .json file that sets CLS.TRAIT, from 1 on; 0: none does. */
unsigned configplace_line(const char *path, const char *cls, const char *trait);

#endif
