package xdp

import (
	"math/bits"
	"unsafe"

	"systole/dataplane"
)

// canvas is an image that knows which of its blocks differ from an empty one.
// An image has megabytes, for thousands of services; most configurations have
// ten, and Apply clears and copies only what they use.
type canvas struct {
	image image
	drawn blocks
	empty *image // of no service; shared, never written
}

// blockSize is small against the tables and large against their elements.
const (
	blockSize  = 512
	imageSize  = int(unsafe.Sizeof(image{}))
	blockCount = (imageSize + blockSize - 1) / blockSize
)

// blocks is a set of blocks of an image.
type blocks [(blockCount + 63) / 64]uint64

// allBlocks is of an image of which nothing is known.
func allBlocks() (b blocks) {
	for i := range b {
		b[i] = ^uint64(0)
	}
	return b
}

func newCanvas(a aging) *canvas {
	c := &canvas{empty: new(image)}
	usual := a.timeouts(dataplane.Timeouts{}, 0)
	for i := range c.empty.Timeouts {
		c.empty.Timeouts[i].ByState = usual
	}
	c.empty.Timeouts[0].ByState = a.fragments()
	c.image.Timeouts = c.empty.Timeouts // the rest is zero, and no memory yet
	return c
}

// draw returns at, a part of c's image that the caller is going to write.
func draw[T any](c *canvas, at *T) *T {
	first := uintptr(unsafe.Pointer(at)) - uintptr(unsafe.Pointer(&c.image))
	c.mark(int(first), int(unsafe.Sizeof(*at)))
	return at
}

// drawAll is draw for a slice of an array of the image.
func drawAll[T any](c *canvas, at []T) []T {
	if len(at) > 0 {
		first := uintptr(unsafe.Pointer(&at[0])) - uintptr(unsafe.Pointer(&c.image))
		c.mark(int(first), len(at)*int(unsafe.Sizeof(at[0])))
	}
	return at
}

func (c *canvas) mark(first, size int) {
	for b := first / blockSize; b <= (first+size-1)/blockSize; b++ {
		c.drawn[b/64] |= 1 << (b % 64)
	}
}

// clear empties the image again.
func (c *canvas) clear() {
	copyBlocks(&c.image, c.empty, &c.drawn)
	c.drawn = blocks{}
}

// onto makes half the same as c's image. known are the blocks of half that may
// not be empty, and become those of c.
func (c *canvas) onto(half *image, known *blocks) {
	for i := range known {
		known[i] |= c.drawn[i]
	}
	copyBlocks(half, &c.image, known)
	*known = c.drawn
}

func copyBlocks(to, from *image, which *blocks) {
	dst := unsafe.Slice((*byte)(unsafe.Pointer(to)), imageSize)
	src := unsafe.Slice((*byte)(unsafe.Pointer(from)), imageSize)
	for i, word := range which {
		for ; word != 0; word &= word - 1 {
			first := (i*64 + bits.TrailingZeros64(word)) * blockSize
			if first >= imageSize {
				return
			}
			last := min(first+blockSize, imageSize)
			copy(dst[first:last], src[first:last])
		}
	}
}
