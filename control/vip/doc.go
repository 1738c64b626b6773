// Package vip puts virtual addresses on this machine and tells the LAN where
// they are now.
//
// # Promises
//
//  1. Add and Del are idempotent. After Del the address is on the interface
//     in no form, whatever prefix length it had.
//  2. The first announcement leaves in the caller of Announce, before it
//     returns; no goroutine has to be scheduled first.
//  3. Once Del or Close has returned, nothing is announced any more: a late
//     announcement would take the address from a peer that has taken over.
//  4. An address that somebody else removed is not announced again.
//  5. Each announcement of an IPv4 address is a pair, the request form and the
//     reply form, since some switches and routers listen to one of them only.
//     That of an IPv6 address is an unsolicited neighbour advertisement with
//     the override flag (RFC 4861 section 7.2.6).
//  6. An IPv6 address is in use as soon as it is added: its uniqueness is the
//     cluster's affair, so the kernel does not look for duplicates (RFC 4862
//     section 5.4), which would take it a second. It is added as deprecated
//     (section 5.5.4), so that the machine never speaks from it by itself.
//
// A Manager works in the network namespace of the process. It needs
// CAP_NET_ADMIN and CAP_NET_RAW.
package vip
