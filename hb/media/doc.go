// Package media is the paths that heartbeat packets take: each medium is a
// small package that registers itself by name, and a director uses several at
// once.
//
// There are ucast, bcast and mcast over UDP, serial over a null-modem cable, and
// ping, which reaches no node but shows whether the network does; a program
// imports those it wants for their registration. ucast, mcast and ping take IPv4
// or IPv6 addresses, a medium of either; the original calls the latter ucast6,
// mcast6 and ping6.
package media
