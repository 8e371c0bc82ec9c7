//go:build !unix

package main

import (
	"syscall"
	"testing"
)

// The rows that need pipes, signals or limits are for Unix.

func skipRow(t *testing.T) { t.Skip("needs Unix") }

func skipRun(t *testing.T, _ *badInput, _ []string) outcome {
	skipRow(t)
	return outcome{}
}

func pipe(string) change              { return skipRow }
func socket(string) change            { return skipRow }
func signalled(syscall.Signal) runner { return skipRun }

func large(t *testing.T)      { skipRow(t) }
func manyLayers(t *testing.T) { skipRow(t) }
func leftByRoot(t *testing.T) { skipRow(t) }

var onSmallDisk, withFileLimit, signalledWaiting, signalledTwice, asNobody, withLittleMemory, whileMerging runner = skipRun, skipRun, skipRun, skipRun, skipRun, skipRun, skipRun
