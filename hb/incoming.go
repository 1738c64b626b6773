package hb

import (
	"errors"
	"fmt"
	"math"
	"time"

	"systole/hb/wire"
)

// incoming is what the protocol needs of a received message (section 4). The
// byte slices are parts of it.
type incoming struct {
	wire.Message
	typ, src, dest    []byte
	srcUUID, destUUID []byte // nil or 16 bytes
	seq, gen          uint64
	ts                int64 // seconds since 1970
	numbered          bool  // not NS_*: has a sequence number

	key         wire.Key // what it is signed with
	nonce, seen []byte   // see guard; nil if absent
	count       uint64   // of an NS_ message; 0 if absent

	// Of a status message. A word or dead time that makes no sense is left out.
	status       Status
	statusText   []byte
	deadtime     time.Duration
	deadtimeText []byte
	hasDeadtime  bool
	protocol     bool
	systole      bool
	keepalive    time.Duration // 0: not said, or not usable
	ends         bool
}

// parse checks that the fields are there which every receiver requires
// (section 4). Numbers are hexadecimal.
func parse(m wire.Message) (incoming, error) {
	in := incoming{Message: m}
	var seqText, genText, tsText, countText, keepaliveText []byte
	for i := range m.Fields {
		f := &m.Fields[i]
		dst, kind := (*[]byte)(nil), wire.String
		switch f.Name {
		case "t":
			dst = &in.typ
		case "src":
			dst = &in.src
		case "dest":
			dst = &in.dest
		case "srcuuid":
			dst, kind = &in.srcUUID, wire.Binary
		case "destuuid":
			dst, kind = &in.destUUID, wire.Binary
		case "nonce": // of another type it is none of ours
			if f.Type == wire.Binary {
				dst, kind = &in.nonce, wire.Binary
			}
		case "seen":
			if f.Type == wire.Binary {
				dst, kind = &in.seen, wire.Binary
			}
		case "nscount":
			dst = &countText
		case "seq":
			dst = &seqText
		case "hg":
			dst = &genText
		case "ts":
			dst = &tsText
		case "st":
			dst = &in.statusText
		case "dt":
			dst = &in.deadtimeText
		case "protocol":
			in.protocol = true
		case "systole":
			in.systole = true
		case "ends":
			in.ends = true
		case "ka":
			dst = &keepaliveText
		}
		switch {
		case dst == nil:
		case f.Type != kind:
			return in, fmt.Errorf("field %s is of type %d", f.Name, f.Type)
		case *dst == nil: // of two fields with one name the first counts
			*dst = f.Value
		}
	}
	switch {
	case len(in.typ) == 0:
		return in, errors.New("no field t")
	case len(in.src) == 0:
		return in, errors.New("no field src")
	case in.srcUUID != nil && len(in.srcUUID) != 16, in.destUUID != nil && len(in.destUUID) != 16:
		return in, errors.New("a uuid does not have 16 bytes")
	}
	ts, ok := hex(tsText)
	if !ok || ts == 0 {
		return in, fmt.Errorf("field ts=%.40q: want a time", tsText)
	}
	in.ts = int64(min(ts, maxTime))
	in.numbered = !(len(in.typ) >= 3 && string(in.typ[:3]) == "NS_")
	if in.gen, ok = hex(genText); in.numbered && (!ok || in.gen == 0) {
		return in, fmt.Errorf("field hg=%.40q: want a generation", genText)
	}
	if in.seq, ok = hex(seqText); in.numbered && (!ok || in.seq == 0) {
		return in, fmt.Errorf("field seq=%.40q: want a sequence number", seqText)
	}
	if in.count, ok = hex(countText); countText != nil && !ok {
		return in, fmt.Errorf("field nscount=%.40q: want a number", countText)
	}
	switch string(in.statusText) {
	case "init":
		in.status = Init
	case "up":
		in.status = Up
	case "active":
		in.status = Active
	}
	// 32 bits of milliseconds are 49 days: more is a mistake, and might
	// overflow.
	if ms, ok := hex(in.deadtimeText); ok && 0 < ms && ms <= math.MaxUint32 {
		in.deadtime, in.hasDeadtime = time.Duration(ms)*time.Millisecond, true
	}
	if ms, ok := hex(keepaliveText); ok && ms <= math.MaxUint32 {
		in.keepalive = time.Duration(ms) * time.Millisecond
	}
	return in, nil
}

// maxTime is a time far away that does not overflow as a duration.
const maxTime = 1 << 33

// hex reads a number without sign of at most 64 bits. That a field is absent,
// which is usual, costs nothing here; an error of package strconv does.
func hex(text []byte) (n uint64, ok bool) {
	for _, c := range text {
		var digit byte
		switch {
		case '0' <= c && c <= '9':
			digit = c - '0'
		case 'a' <= c && c <= 'f':
			digit = c - 'a' + 10
		case 'A' <= c && c <= 'F':
			digit = c - 'A' + 10
		default:
			return 0, false
		}
		if n>>60 != 0 {
			return 0, false
		}
		n = n<<4 | uint64(digit)
	}
	return n, len(text) > 0
}
