// Package media is the paths that heartbeat packets take: each medium is a
// small package that registers itself by name, and a director uses several at
// once.
//
// There are ucast, bcast and mcast over UDP and serial over a null-modem cable;
// a program imports those it wants for their registration. The kinds for IPv6
// are left out.
package media
