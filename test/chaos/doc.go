// Package chaos does to a data plane under traffic what must not cost a packet
// or a connection: programs replaced, configurations applied without end,
// daemons killed, floods, hand-overs. It counts what was lost; the goal is
// nothing.
//
// Most tests send through package flood, at full rate and with every frame
// counted; those about connections have real ones, of the kernel's TCP, through
// real daemons. They need root. Each has a short form for every change and,
// with SYSTOLE_SOAK=1 (make soak), its full size. It has tests and no code.
package chaos
