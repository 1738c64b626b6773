// Package api is the control socket: HTTP and JSON on a Unix socket, for the
// command line and for programs.
//
//	GET  /v1/status                     control.State
//	POST /v1/standby    {"class":"all"} hand groups to the peer
//	POST /v1/takeover   {"class":"all"} ask the peer for groups
//	POST /v1/reload                     read the config again
//	POST /v1/quiesce    {"server":"192.168.145.200","service":"192.168.145.101:80/tcp"}
//	POST /v1/resume     likewise; without service: all services of the server
//
// A refused request answers 4xx with {"error": "..."}; nothing has changed then.
// The socket has mode 0600: whoever may open it may steer the director.
package api
