package publish

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"hash/crc32"
	"os"
	"sync"
	"sync/atomic"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/fault"
)

// FileResult is a finished file of an output, as it was read back.
type FileResult struct {
	Name   string // slash-separated, in the output's directory
	Size   int64
	CRC32C uint32 // Castagnoli
	SHA256 string // in hex; empty unless it was asked for
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const (
	// readBackBytes is how much is read at once: enough for the system to read ahead,
	// and little enough to stay in the processor's cache between reading and summing.
	readBackBytes = 256 << 10
	// readBackSpan is how much of a file one worker takes at a time.
	readBackSpan = 16 << 20
)

// readBack reads a finished file of the output and sums it up. Without SHA-256, which
// has to see the bytes one after another, all workers read.
func readBack(ctx context.Context, path string, opts Options) (FileResult, error) {
	f, err := fault.Open(path)
	if err != nil {
		return FileResult{}, formats.Outputf(path, formats.Cause(err), "reading it back")
	}
	defer f.Close()
	r, err := sumUp(ctx, f, opts)
	if err != nil && ctx.Err() == nil {
		err = formats.Outputf(path, formats.Cause(err), "reading it back")
	}
	return r, err
}

func sumUp(ctx context.Context, f *os.File, opts Options) (FileResult, error) {
	info, err := f.Stat()
	if err != nil {
		return FileResult{}, err
	}
	r := FileResult{Size: info.Size()}
	if opts.SHA256 && opts.File != nil {
		h := sha256.New()
		if r.CRC32C, err = sumRange(ctx, f, 0, r.Size, h); err != nil {
			return FileResult{}, err
		}
		r.SHA256 = hex.EncodeToString(h.Sum(nil))
		return r, nil
	}
	sums := make([]uint32, (r.Size+readBackSpan-1)/readBackSpan)
	errs := make([]error, len(sums))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(opts.BlockOptions.withDefaults().Workers, len(sums)) {
		wg.Go(func() {
			for i := int(next.Add(1) - 1); i < len(sums); i = int(next.Add(1) - 1) {
				off := int64(i) * readBackSpan
				if sums[i], errs[i] = sumRange(ctx, f, off, min(readBackSpan, r.Size-off), nil); errs[i] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	for i, sum := range sums {
		if errs[i] != nil {
			return FileResult{}, errs[i]
		}
		r.CRC32C = combineCRC(r.CRC32C, sum, min(readBackSpan, r.Size-int64(i)*readBackSpan))
	}
	return r, nil
}

// sumRange returns the CRC of a part of a file, and writes it to h unless that is nil.
func sumRange(ctx context.Context, f *os.File, off, n int64, h hash.Hash) (crc uint32, err error) {
	buf := make([]byte, min(n, readBackBytes))
	for end := off + n; off < end; off += int64(len(buf)) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		buf = buf[:min(int64(len(buf)), end-off)]
		if err := formats.ReadFullAt(own{f}, buf, off); err != nil {
			return 0, err
		}
		crc = crc32.Update(crc, castagnoli, buf)
		if h != nil {
			h.Write(buf)
		}
	}
	return crc, nil
}

// combineCRC returns the CRC of two pieces of text from theirs and the length of the
// second in bytes. A CRC is the remainder of a polynomial over GF(2), and to put n bytes
// behind the first piece is to multiply its remainder by x to the power 8n.
func combineCRC(first, second uint32, n int64) uint32 {
	power := uint32(1) << 31        // x⁰: the highest bit is the lowest power
	square := uint32(1) << (31 - 8) // x⁸
	for ; n > 0; n >>= 1 {
		if n&1 != 0 {
			power = multiply(power, square)
		}
		square = multiply(square, square)
	}
	return multiply(first, power) ^ second
}

// multiply returns the product of two polynomials modulo Castagnoli's.
func multiply(a, b uint32) (p uint32) {
	for ; a != 0; a <<= 1 {
		if a>>31 != 0 {
			p ^= b
		}
		b = b>>1 ^ -(b&1)&crc32.Castagnoli
	}
	return p
}
