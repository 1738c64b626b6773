// Package media is the paths that heartbeat packets take: each medium is a
// small package that registers itself by name, and a director uses several at
// once.
//
// Package hb/media/ucast is the first one; a program that wants it imports it
// for its registration.
package media
