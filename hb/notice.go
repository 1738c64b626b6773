package hb

// NoticeKind says what was learnt of a peer or a medium without a packet of its daemon.
type NoticeKind uint8

const (
	HostAnswered NoticeKind = iota + 1 // the peer's machine answered an echo request
	PortRefused                        // the peer's machine says that nobody listens on the daemon's port
	CarrierLost                        // our own interface of the medium has no carrier, or is gone
	CarrierBack                        // it has one again
	Disconnected                       // the daemon's end of a connection without traffic was closed
)

// Notice is such a thing. Node is empty where it is about our own end of the
// medium: for CarrierLost and CarrierBack.
type Notice struct {
	Node, Medium string
	Kind         NoticeKind
}
