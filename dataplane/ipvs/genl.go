package ipvs

import (
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// IPVS's generic netlink family, by its names and numbers in
// include/uapi/linux/ip_vs.h. Integers are in host byte order, ports (but the
// sync daemon's) and addresses in network byte order.
const (
	familyName    = "IPVS"
	familyVersion = 1

	cmdNewService = 1
	cmdSetService = 2
	cmdDelService = 3
	cmdGetService = 4
	cmdNewDest    = 5
	cmdSetDest    = 6
	cmdDelDest    = 7
	cmdGetDest    = 8
	cmdNewDaemon  = 9
	cmdDelDaemon  = 10
	cmdGetDaemon  = 11
	cmdSetConfig  = 12
	cmdGetConfig  = 13
	cmdGetInfo    = 15
	cmdZero       = 16
)

// Attributes, by what they are in.
const (
	attrService       = 1 // in all commands
	attrDest          = 2
	attrDaemon        = 3
	attrTimeoutTCP    = 4
	attrTimeoutTCPFin = 5
	attrTimeoutUDP    = 6

	svcFamily   = 1
	svcProtocol = 2
	svcAddr     = 3
	svcPort     = 4
	svcFWMark   = 5
	svcSched    = 6
	svcFlags    = 7
	svcTimeout  = 8
	svcNetmask  = 9
	svcEngine   = 11
	svcStats64  = 12

	dstAddr     = 1
	dstPort     = 2
	dstForward  = 3
	dstWeight   = 4
	dstUpper    = 5
	dstLower    = 6
	dstActive   = 7
	dstInactive = 8
	dstPersist  = 9
	dstFamily   = 11
	dstStats64  = 12
	dstTunType  = 13
	dstTunPort  = 14
	dstTunFlags = 15

	daemonState  = 1
	daemonIface  = 2
	daemonSyncID = 3
	daemonMaxLen = 4
	daemonGroup  = 5
	daemonGroup6 = 6
	daemonPort   = 7
	daemonTTL    = 8

	infoVersion = 1
	infoSize    = 2

	statsConns    = 1
	statsInPkts   = 2
	statsOutPkts  = 3
	statsInBytes  = 4
	statsOutBytes = 5
	statsCPS      = 6
	statsInPPS    = 7
	statsOutPPS   = 8
	statsInBPS    = 9
	statsOutBPS   = 10

	typeMask = 0x3fff // an attribute's type without its flags (linux/netlink.h)
)

// patience is how long the kernel may take for an answer. It takes
// microseconds, but for the first use of a scheduler, when it loads a module.
const patience = 30 * time.Second

// socket is a netlink socket in the network namespace it was opened in, which
// serves all commands: they may come from any thread.
type socket struct {
	family uint16
	handle *nl.SocketHandle
}

func openSocket(family uint16) (*socket, error) {
	s, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_GENERIC)
	if err != nil {
		return nil, err
	}
	limit := unix.NsecToTimeval(patience.Nanoseconds())
	if err := errors.Join(s.SetSendTimeout(&limit), s.SetReceiveTimeout(&limit)); err != nil {
		s.Close()
		return nil, err
	}
	return &socket{family, &nl.SocketHandle{Socket: s}}, nil
}

func (s *socket) close() { s.handle.Close() }

// genlHeader is struct genlmsghdr: command, version, two reserved bytes.
type genlHeader [headerSize]byte

const headerSize = 4

func (h genlHeader) Len() int          { return headerSize }
func (h genlHeader) Serialize() []byte { return h[:] }

// request sends one command and returns the attributes of its answers. With
// NLM_F_ACK there is no answer but the kernel's error, with NLM_F_DUMP there
// are many.
func (s *socket) request(cmd uint8, flags int, data ...*nl.RtAttr) ([][]byte, error) {
	req := nl.NewNetlinkRequest(int(s.family), flags)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_GENERIC: s.handle}
	req.AddData(genlHeader{cmd, familyVersion})
	for _, d := range data {
		req.AddData(d)
	}
	msgs, err := req.Execute(unix.NETLINK_GENERIC, 0)
	if errors.Is(err, unix.EAGAIN) {
		return nil, fmt.Errorf("no answer from the kernel within %s", patience)
	}
	if err != nil {
		return nil, err
	}
	for i, m := range msgs {
		if len(m) < headerSize {
			return nil, fmt.Errorf("%w: %d bytes", errMessage, len(m))
		}
		msgs[i] = m[headerSize:]
	}
	return msgs, nil
}

// one is a request with exactly one answer.
func (s *socket) one(cmd uint8, data ...*nl.RtAttr) ([]byte, error) {
	msgs, err := s.request(cmd, 0, data...)
	if err != nil {
		return nil, err
	}
	if len(msgs) != 1 {
		return nil, fmt.Errorf("%w: %d answers", errMessage, len(msgs))
	}
	return msgs[0], nil
}
