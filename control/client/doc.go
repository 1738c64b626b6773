// Package client lets a program on a director's machine speak to the cluster:
// send messages to the other nodes, and hear messages, membership and links.
// It is what the FIFO and the client API of the original heartbeat gave. It
// needs nothing but the director's control socket, which only its user may
// open.
//
//	c := client.New(client.DefaultSocket)
//	sent, err := c.Send(ctx, client.Message{Type: "app.deploy", Fields: map[string]string{"release": "7"}})
//	for e, err := range c.Listen(ctx, client.Wanted{Types: []string{"app.deploy"}}) {
//		// e.Node, e.Fields; err is the last thing that is seen
//	}
//
// # Promises
//
//  1. A message that Send took arrives exactly once at every director that is
//     alive and stays so, or an event of KindLost says there which ones did not. It is
//     an event at the sender, too, so that all see the same messages, those of
//     one sender in the order in which it sent them.
//  2. Send is slowed, not refused, while the cluster has not acknowledged what
//     was sent before: it waits for room as long as its context lets it. The
//     director's own messages do not wait behind those of programs.
//  3. Nothing is missed in silence. Events carry growing numbers, and a stream
//     that ends says why: ErrStopped, or *MissedError with how many events were
//     left out because they were not read in time. A program that does not
//     read delays nobody but itself.
//  4. Listen begins with what is: KindStart, the nodes, links and the view as they are now
//     (Snapshot), and then every change. What changes meanwhile may be told
//     twice, never not at all.
//
// A Client does not reconnect: what to do about events that happened meanwhile
// is the program's to decide. It calls Listen again and gets a new snapshot.
//
// # Types, names and values
//
// A message's type and the names of its fields are of letters, digits, '_',
// '-' and '.', at most 64 of them, and do not begin with '.' or '-'. An old
// heartbeat node runs the script of that name, if it has one, with each field
// as a variable of its environment; hence the alphabet.
//
// The types of the protocol and of takeover are refused: those of
// heartbeat-wire.md section 5, and all that begin with NS_, hbapi- or systole,
// in any case. No later version will take away more than these, so that a
// program needs no prefix; one such as "app." keeps programs apart.
//
// A value is text without NUL and without byte 0x13, for which the classic form
// of a message has no place; newlines are fine. What is not such text goes into
// Binary. An empty value is refused, as an old node does not tell it from none.
// Type, names and values together have at most 16 KiB, in at most 64 fields: a
// message must fit into a datagram, and must not hold up the beats behind it.
package client
