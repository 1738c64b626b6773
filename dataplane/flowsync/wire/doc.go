// Package wire is the message format of IPVS's connection synchronisation,
// version 1 (net/netfilter/ipvs/ip_vs_sync.c in Linux), as bytes and as values.
//
// One message is one UDP datagram. All numbers are big-endian.
//
//	0  reserved, 0 (version 0 had its connection count here)
//	1  sync id                        2  size of the whole message (16 bits)
//	4  number of connections          5  version, 1        6  spare, 0 (16 bits)
//
// Then for each connection, padded with zeros to a multiple of 4:
//
//	 0  type: bit 0 set: IPv6          1  protocol
//	 2  version (4 bits, 0) and size (12 bits, without padding)
//	 4  flags (32 bits)                8  state of the protocol (16 bits)
//	10  client's port                 12  virtual port     14  server's port
//	16  firewall mark (32 bits)       20  timeout in seconds (32 bits)
//	24  address of the client, the virtual one, the server's: 4 bytes each, or 16
//	    then options: type, length (8 bits each), as many bytes
//
// What follows the last connection and is still within the size is the Trailer.
// The kernel counts connections and never looks there.
//
// # Promises
//
//  1. Decode of what Append made gives the same value, and Append of what Decode
//     took from a kernel gives the same bytes.
//  2. An error wraps ErrMalformed or ErrVersion and names the offset of the byte
//     that is wrong. Nothing is read beyond the message, whatever it says.
//  3. Options of unknown types are carried. Whether one may be skipped is the
//     type's bit 6 (OptionSkip), as in the kernel.
package wire
