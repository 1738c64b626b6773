// Package config reads systole.yaml, the one file that describes a cluster of
// directors and is the same on each of them.
//
// # Promises
//
//  1. A Config that Parse returns is whole and checked: every field has its
//     value or its default, and what is checked here need not be checked again.
//  2. A file that is not right yields every error it has, at once, each as
//     "file:line:col: message" in the order of the file, and no Config. The
//     message says what to write instead.
//  3. Nothing is ignored: a key that is unknown, written twice, of the wrong
//     kind, without a value, or without effect where it stands is an error.
//     What a service asks for can be done by one of the data planes; which
//     ones carry it is theirs to say, and "systole check" does.
//  4. Neither root, nor a kernel, nor the network is needed. What only the
//     machine can tell (is there such an interface, may others read the
//     authkeys) is left to Warnings and to the start of the daemon.
//  5. Reference, the documented example, has every key there is.
//
// The form is YAML without what hides things: one document, no tags and no
// merge keys. Anchors and aliases are understood, so that many services can
// share one check.
package config
