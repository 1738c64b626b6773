// Package observe is what there is to say of single packets: which are wanted
// (Filter), what a plane did with one (Packet), and how people and tools read
// it (Headers, PcapWriter). XDP's packets are seen by no packet socket, so this
// is the only way to see them.
//
// A plane that can be observed has a method Observe that returns a Source.
//
// # Promises of a Source
//
//  1. No packet pays anything but between Observe and Close.
//  2. Packets are never held up. A reader that is too slow, or more packets than
//     Config.Rate, costs records: they are counted (Lost), and memory stays
//     bounded.
//  3. What a record says of its packet is exact: frames, verdict, reasons and
//     flow are of this packet, not read later.
package observe
