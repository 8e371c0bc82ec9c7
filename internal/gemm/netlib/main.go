// Command netlib compares package gemm with OpenBLAS, which it calls through
// gonum.org/v1/netlib. It is a module of its own so that graft depends on no C. It needs
// libopenblas-dev, a C compiler and CGO_LDFLAGS=-lopenblas.
//
//	netlib [-cores 1,2] [-rounds n] [-only text] [-gonum]
//
// Both take turns on the same operands, a few dozen milliseconds each, and of the stretches
// of a millisecond in them the fastest of each counts, so that what else the machine does
// hits both alike. It prints the version of OpenBLAS, and for each product GFLOP/s of both
// and what part of OpenBLAS's speed gemm has.
package main

/*
#cgo LDFLAGS: -lopenblas
char *openblas_get_config(void);
char *openblas_get_corename(void);
void openblas_set_num_threads(int);
*/
import "C"

import (
	"flag"
	"fmt"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/gonum"
	"gonum.org/v1/netlib/blas/netlib"

	"github.com/seed-b982eded/graft/internal/gemm"
)

// product is one of those that a trainer or a decomposition computes.
type product struct {
	name    string
	tA, tB  blas.Transpose
	m, n, k int
}

// quiet is how long OpenBLAS's threads need to fall asleep: they look for work for up to 2²⁸
// cycles after they had some, on the processor that the other side is about to use.
const quiet = 150 * time.Millisecond

const (
	no  = blas.NoTrans
	yes = blas.Trans
)

var products = []product{
	{"attention forward", no, yes, 1024, 768, 768},
	{"attention backward", no, no, 1024, 768, 768},
	{"mlp up", no, yes, 1024, 3072, 768},
	{"mlp up backward", no, no, 1024, 768, 3072},
	{"mlp down", no, yes, 1024, 768, 3072},
	{"mlp down backward", no, no, 1024, 3072, 768},
	{"head", no, yes, 1024, 50257, 768},
	{"x·Aᵀ rank 8", no, yes, 1024, 8, 768},
	{"h·Bᵀ rank 8", no, yes, 1024, 768, 8},
	{"dyᵀ·h rank 8", yes, no, 768, 8, 1024},
	{"dy·B rank 8", no, no, 1024, 8, 768},
	{"dhᵀ·x rank 8", yes, no, 8, 768, 1024},
	{"dh·A rank 8", no, no, 1024, 768, 8},
	{"x·Aᵀ rank 64", no, yes, 1024, 64, 768},
	{"h·Bᵀ rank 64", no, yes, 1024, 768, 64},
	{"dyᵀ·h rank 64", yes, no, 768, 64, 1024},
	{"dy·B rank 64", no, no, 1024, 64, 768},
	{"dhᵀ·x rank 64", yes, no, 64, 768, 1024},
	{"dh·A rank 64", no, no, 1024, 768, 64},
	{"sketch", no, no, 4096, 80, 4096},
	{"sketch of Wᵀ", yes, no, 4096, 80, 4096},
	{"scores of a head", no, yes, 256, 256, 64},
	{"one token", no, yes, 1, 3072, 768},
	{"square", no, no, 1500, 1500, 1500},
}

func main() {
	cores := flag.String("cores", "1,2", "numbers of cores, with commas")
	rounds := flag.Int("rounds", 15, "rounds at most")
	only := flag.String("only", "", "products whose names contain this")
	slow := flag.Bool("gonum", false, "show Gonum's speed too")
	flag.Parse()
	fmt.Println(C.GoString(C.openblas_get_config()), "runs", C.GoString(C.openblas_get_corename()))
	fmt.Printf("%-20s %-24s %5s %5s %9s %9s %7s %9s\n", "product", "size", "bits", "cores", "gemm", "openblas", "ratio", "gonum")
	for _, field := range strings.Split(*cores, ",") {
		n, err := strconv.Atoi(field)
		if err != nil || n < 1 {
			fmt.Fprintf(os.Stderr, "-cores: got %q, want numbers from 1\n", field)
			os.Exit(1)
		}
		runtime.GOMAXPROCS(n)
		C.openblas_set_num_threads(C.int(n))
		for _, p := range products {
			if strings.Contains(p.name, *only) {
				compare(p, 32, n, *rounds, *slow, blas.Float32.Sgemm)
				compare(p, 64, n, *rounds, *slow, blas.Float64.Dgemm)
			}
		}
	}
}

// compare prints a line for one product. method is a product of an implementation I.
func compare[T float32 | float64, I any](p product, bits, cores, rounds int, slow bool,
	method func(impl I, tA, tB blas.Transpose, m, n, k int, alpha T, a []T, lda int, b []T, ldb int, beta T, c []T, ldc int)) {
	a, b, c := numbers[T](p.m*p.k), numbers[T](p.k*p.n), make([]T, p.m*p.n)
	lda, ldb := p.k, p.n
	if p.tA == yes {
		lda = p.m
	}
	if p.tB == yes {
		ldb = p.k
	}
	flops := 2 * float64(p.m) * float64(p.n) * float64(p.k)
	repeat := int(max(1, 1e8/flops)) // about a millisecond: long against what the clock resolves
	stretches := int(max(1, 2e9/(flops*float64(repeat))))
	run := func(impl any) float64 {
		// Once unmeasured: the caches hold what the other side used.
		method(impl.(I), p.tA, p.tB, p.m, p.n, p.k, 1, a, lda, b, ldb, 1, c, p.n)
		best := math.Inf(1)
		for range stretches {
			began := clock(cores)
			for range repeat {
				method(impl.(I), p.tA, p.tB, p.m, p.n, p.k, 1, a, lda, b, ldb, 1, c, p.n)
			}
			best = min(best, (clock(cores)-began).Seconds()/float64(repeat))
		}
		return best
	}
	ours, theirs, gonums := math.Inf(1), math.Inf(1), math.Inf(1)
	run(gemm.Implementation{})
	run(netlib.Implementation{})
	for began := time.Now(); rounds > 0 && time.Since(began) < 3*time.Second; rounds-- {
		if cores > 1 {
			time.Sleep(quiet)
		}
		ours = min(ours, run(gemm.Implementation{}))
		theirs = min(theirs, run(netlib.Implementation{}))
	}
	if slow {
		gonums = run(gonum.Implementation{})
	}
	fmt.Printf("%-20s %-24s %5d %5d %9.1f %9.1f %6.0f%% %9.1f\n", p.name,
		fmt.Sprintf("%c%c %d×%d×%d", p.tA, p.tB, p.m, p.n, p.k), bits, cores,
		flops/ours/1e9, flops/theirs/1e9, 100*theirs/ours, flops/gonums/1e9)
}

// clock returns a time: that of the processor where there is one core, which others on the
// machine cannot lengthen, and else that of the wall.
func clock(cores int) time.Duration {
	which := int32(unix.CLOCK_MONOTONIC)
	if cores == 1 {
		which = unix.CLOCK_PROCESS_CPUTIME_ID
	}
	var t unix.Timespec
	if err := unix.ClockGettime(which, &t); err != nil {
		panic(err)
	}
	return time.Duration(t.Nano())
}

func numbers[T float32 | float64](n int) []T {
	v := make([]T, n)
	for i := range v {
		v[i] = T(i%17)/16 - 0.5
	}
	return v
}
