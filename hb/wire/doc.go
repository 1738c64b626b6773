// Package wire is the heartbeat message format: an ordered list of fields,
// written as netstrings or as classic text, and authenticated.
//
// The rules are those of heartbeat-wire.md, sections 2 to 4, checked against
// captures of heartbeat 3.0.6. The package holds no state and keeps no time;
// its only contact with the outside is LoadAuthkeys, which reads one file.
//
// # Promises
//
//  1. Every packet of the real implementation decodes, and encodes again to
//     the same bytes.
//  2. A packet decodes only if its authenticator is right; comparison takes
//     constant time. Nothing is built from a packet before it was verified.
//  3. Whatever the bytes, Decode returns; bad input is an error that says
//     where, never a panic, and costs no more memory than a small multiple of
//     the packet's length.
//  4. What Decode returns shares no memory with the packet, so a receive
//     buffer can be used again at once.
//  5. Encode allocates nothing if dst has room, and a Decoder in steady state
//     nothing at all.
//
// # Out of scope
//
// Compressed messages (section 2.4), which a cluster without CRM never sends,
// are refused with ErrUnsupported. Fields of the types Nested, List and
// Compressed are carried as opaque bytes in the form they came in.
package wire
