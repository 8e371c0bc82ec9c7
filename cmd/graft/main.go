// Command graft puts low-rank adapters on pretrained checkpoints: it makes, trains,
// inspects and evaluates them, and merges them into the model.
//
// Run "graft --help" for the commands, or read docs/cli.md. Data goes to stdout, talk
// to stderr. Exit codes: 0 done, 1 usage, 3 a check found a difference, 4 an input was
// rejected, 5 an adapter does not fit the base, 6 output or I/O failed, 130
// interrupted.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"gonum.org/v1/gonum/blas/blas32"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/lapack/lapack64"

	"github.com/seed-b982eded/graft/internal/gemm"
)

func init() {
	blas32.Use(gemm.Implementation{})
	blas64.Use(gemm.Implementation{})
	lapack64.Use(gemm.LAPACK{})
}

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program without its process.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as it is under nohup
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	defer stop()
	go func() {
		<-ctx.Done()
		stop() // a second signal ends the process at once
	}()
	return execute(ctx, args, stdin, stdout, stderr)
}
