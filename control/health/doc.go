// Package health checks real servers and says which are up.
//
// # Promises
//
//  1. A server is down until a check has succeeded: a dead one is never up, not
//     even at the start.
//  2. Checks run side by side. A server that hangs delays no other, as long as
//     no more than 256 hang at once; and it takes its own timeout, not longer.
//  3. The first check of a new target runs at once; the later ones keep their
//     interval, at phases that spread them evenly over it.
//  4. Set changes what has changed and nothing else: the others keep their state,
//     their counts and their schedule.
//  5. Up and down change by the rule of rise and fall alone (see Result), which is
//     pure and apart from sockets and clock.
//  6. An error says what was wanted and what was seen, for the operator.
//  7. When Run returns, nothing of it runs any more.
//
// There is one file for each type of check; checkers is the register.
package health
