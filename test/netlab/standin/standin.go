// Package standin has the programs that run on the real servers of a netlab:
// a web server and a name server, small and built in. They run in the calling
// program on sockets of the host, so they can be stopped and started at once,
// and tell how often they were asked.
//
// They listen on every address of the host, as a real server in direct routing
// must: its own, and the virtual one on its loopback.
package standin

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"systole/test/netlab"
)

// The page that health checks ask for, and its content.
const (
	CheckPath = "/.test.html"
	CheckBody = "ok\n"
)

// Web is a web server. Its zero value is not usable; see NewWeb.
type Web struct {
	host *netlab.Host
	name string
	text string

	mu  sync.Mutex
	srv *http.Server

	requests atomic.Uint64
}

// NewWeb returns a stopped web server for port 80 of h. It answers CheckPath
// with CheckBody if asked for the virtual host name, and any other path with
// text.
func NewWeb(h *netlab.Host, name, text string) *Web {
	return &Web{host: h, name: name, text: text}
}

// Requests counts those answered, checks excepted.
func (w *Web) Requests() uint64 { return w.requests.Load() }

// Start listens. It does nothing if the server runs.
func (w *Web) Start() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.srv != nil {
		return nil
	}
	ln, err := w.host.Listen("tcp4", "0.0.0.0:80")
	if err != nil {
		return fmt.Errorf("web server on %s: %w", w.host.Name, err)
	}
	w.srv = &http.Server{Handler: http.HandlerFunc(w.serve), ReadHeaderTimeout: 5 * time.Second}
	go w.srv.Serve(ln) // ends with ErrServerClosed
	return nil
}

// Stop closes the listener and all connections: who asks now is refused.
func (w *Web) Stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.srv != nil {
		_ = w.srv.Close() // it closes; an error is of a connection that was gone
		w.srv = nil
	}
}

func (w *Web) serve(rw http.ResponseWriter, r *http.Request) {
	rw.Header().Set("Content-Type", "text/plain")
	if r.URL.Path == CheckPath {
		if r.Host != w.name {
			http.NotFound(rw, r)
			return
		}
		fmt.Fprint(rw, CheckBody)
		return
	}
	w.requests.Add(1)
	fmt.Fprintln(rw, w.text)
}

// DNS is a name server for one name, over UDP and TCP.
type DNS struct {
	servers  []*dns.Server
	name     string
	addr     netip.Addr
	udp, tcp atomic.Uint64
}

// StartDNS serves name, with the address addr, on port 53 of h.
func StartDNS(h *netlab.Host, name string, addr netip.Addr) (*DNS, error) {
	d := &DNS{name: dns.Fqdn(name), addr: addr}
	pc, err := h.ListenPacket("udp4", "0.0.0.0:53")
	if err != nil {
		return nil, fmt.Errorf("name server on %s: %w", h.Name, err)
	}
	ln, err := h.Listen("tcp4", "0.0.0.0:53")
	if err != nil {
		pc.Close()
		return nil, fmt.Errorf("name server on %s: %w", h.Name, err)
	}
	for _, s := range []*dns.Server{{PacketConn: pc}, {Listener: ln}} {
		up := make(chan struct{})
		s.Handler = dns.HandlerFunc(d.answer)
		s.NotifyStartedFunc = func() { close(up) }
		failed := make(chan error, 1)
		go func() { failed <- s.ActivateAndServe() }()
		select {
		case <-up:
			d.servers = append(d.servers, s)
		case err := <-failed:
			pc.Close()
			ln.Close()
			d.Stop()
			return nil, fmt.Errorf("name server on %s: %w", h.Name, err)
		}
	}
	return d, nil
}

// Asked counts the questions answered over UDP and TCP.
func (d *DNS) Asked() (udp, tcp uint64) { return d.udp.Load(), d.tcp.Load() }

// Stop ends the server.
func (d *DNS) Stop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for _, s := range d.servers {
		_ = s.ShutdownContext(ctx) // the sockets are closed in any case
	}
}

func (d *DNS) answer(w dns.ResponseWriter, q *dns.Msg) {
	if _, ok := w.RemoteAddr().(*net.TCPAddr); ok {
		d.tcp.Add(1)
	} else {
		d.udp.Add(1)
	}
	r := new(dns.Msg).SetReply(q)
	r.Authoritative = true
	if len(q.Question) != 1 || dns.CanonicalName(q.Question[0].Name) != d.name {
		r.Rcode = dns.RcodeNameError
	} else if q.Question[0].Qtype == dns.TypeA {
		r.Answer = []dns.RR{&dns.A{
			Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 5},
			A:   d.addr.AsSlice(),
		}}
	}
	_ = w.WriteMsg(r) // a client that left is no error of ours
}
