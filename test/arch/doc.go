// Package arch keeps the arrows between the packages as ARCHITECTURE.md draws
// them. It has a test and no code.
package arch
