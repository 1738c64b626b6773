/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What the program tells an observer of its decisions. Nobody listens in
 * xdp.c, and there it is no instruction; observe.c is the same program with
 * somebody who does.
 */
#ifndef SYSTOLE_OBSERVE_H
#define SYSTOLE_OBSERVE_H

#ifndef SYSTOLE_OBSERVE
/* A packet has a flow, and which states that had and gets (enum flow_state). */
#define observe_flow(before, after) ((void)0)
/* It goes to the server with this id; connections is 1 if it was scheduled. */
#define observe_forward(id, connections) ((void)0)
#endif

#endif
