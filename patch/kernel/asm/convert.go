package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

const quietBit = 1 << 22 // of a float32's NaN

// widenBF16 generates the widening of BF16, whose bits are the upper half of a float32's.
func widenBF16() {
	TEXT("widenBF16_AVX2", NOSPLIT, "func(dst, src *byte, n int)")
	Pragma("noescape")
	Doc("widenBF16_AVX2 writes n BF16, a multiple of 16, as float32, NaNs as quiet ones.")
	dst, src, n := Load(Param("dst"), GP64()), Load(Param("src"), GP64()), Load(Param("n"), GP64())
	quiet := constant32(quietBit)
	Label("loop")
	TESTQ(n, n)
	JZ(LabelRef("done"))
	for j := range 2 {
		w := YMM()
		VPMOVZXWD(Mem{Base: src, Disp: 16 * j}, w)
		VPSLLD(U8(16), w, w)
		quieten(w, quiet)
		VMOVDQU(w, Mem{Base: dst, Disp: 32 * j})
	}
	ADDQ(U8(64), dst)
	ADDQ(U8(32), src)
	SUBQ(U8(16), n)
	JMP(LabelRef("loop"))
	Label("done")
	VZEROUPPER()
	RET()
}

// widenF16 generates the widening of F16. The instruction makes NaNs quiet.
func widenF16() {
	TEXT("widenF16_AVX2", NOSPLIT, "func(dst, src *byte, n int)")
	Pragma("noescape")
	Doc("widenF16_AVX2 writes n F16, a multiple of 16, as float32, NaNs as quiet ones.")
	dst, src, n := Load(Param("dst"), GP64()), Load(Param("src"), GP64()), Load(Param("n"), GP64())
	Label("loop")
	TESTQ(n, n)
	JZ(LabelRef("done"))
	for j := range 2 {
		w := YMM()
		VCVTPH2PS(Mem{Base: src, Disp: 16 * j}, w)
		VMOVUPS(w, Mem{Base: dst, Disp: 32 * j})
	}
	ADDQ(U8(64), dst)
	ADDQ(U8(32), src)
	SUBQ(U8(16), n)
	JMP(LabelRef("loop"))
	Label("done")
	VZEROUPPER()
	RET()
}

// unordered is the predicate of a comparison that holds for NaNs alone.
const unordered = 3

// quieten sets the quiet bit of the NaNs in w, and returns which they are.
func quieten(w, quiet reg.VecVirtual) (nan reg.VecVirtual) {
	nan = YMM()
	bit := YMM()
	VCMPPS(U8(unordered), w, w, nan)
	VPAND(quiet, nan, bit)
	VPOR(bit, w, w)
	return nan
}

// narrowing is a function that narrows float32 and watches their magnitudes, as integers:
// they are in the order of the numbers.
type narrowing struct {
	dst, src, n reg.Register
	magnitude   reg.VecVirtual // mask of all bits but the sign
	toTop       reg.VecVirtual // what takes the infinity to the least int32
	zero, least reg.VecVirtual
	largest     reg.VecVirtual // of each lane, plus toTop
	lost        reg.VecVirtual // of each lane, how many
}

// infinityToTop takes magnitudes from the infinity on to negative integers, so that the
// largest int32 is that of a finite number.
const infinityToTop = 0x80000000 - 0x7f800000

func narrow(to string) narrowing {
	name := fmt.Sprintf("narrow%s_AVX2", to)
	TEXT(name, NOSPLIT, "func(dst, src *byte, n int, least uint32) (largest, lost uint32)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s writes n float32, a multiple of 16, rounded to %s, NaNs as quiet ones. It", name, to),
		"returns the largest magnitude of the finite ones, and how many have a magnitude other",
		"than 0 below least. Magnitudes are the bits of a float32 without sign.")
	f := narrowing{
		dst: Load(Param("dst"), GP64()), src: Load(Param("src"), GP64()), n: Load(Param("n"), GP64()),
		magnitude: constant32(1<<31 - 1), toTop: constant32(infinityToTop),
		zero: YMM(), least: YMM(), largest: YMM(), lost: YMM(),
	}
	VMOVD(Load(Param("least"), GP32()), f.least.AsX())
	VPBROADCASTD(f.least.AsX(), f.least)
	VPXOR(f.zero, f.zero, f.zero)
	VPXOR(f.lost, f.lost, f.lost)
	VMOVDQA(f.toTop, f.largest)
	return f
}

// watch takes account of the magnitudes of w.
func (f narrowing) watch(w reg.VecVirtual) {
	m, t := YMM(), YMM()
	VPAND(f.magnitude, w, m)
	// A comparison gives −1 where it holds.
	VPCMPGTD(m, f.least, t)
	VPSUBD(t, f.lost, f.lost)
	VPCMPEQD(f.zero, m, t)
	VPADDD(t, f.lost, f.lost)
	VPADDD(f.toTop, m, m)
	VPMAXSD(m, f.largest, f.largest)
}

// end returns what was watched, over all lanes.
func (f narrowing) end() {
	Label("done")
	for _, result := range []struct {
		name    string
		v       reg.VecVirtual
		combine func(...Op)
		bias    uint32
	}{
		{"largest", f.largest, func(o ...Op) { VPMAXSD(o...) }, infinityToTop},
		{"lost", f.lost, func(o ...Op) { VPADDD(o...) }, 0},
	} {
		v, t, g := result.v.AsX(), XMM(), GP32()
		VEXTRACTI128(U8(1), result.v, t)
		result.combine(t, v, v)
		for _, order := range []uint8{0x4e, 0xb1} { // halves exchanged, then neighbours
			VPSHUFD(U8(order), v, t)
			result.combine(t, v, v)
		}
		VMOVD(v, g)
		SUBL(U32(result.bias), g)
		Store(g, Return(result.name))
	}
	VZEROUPPER()
	RET()
}

func narrowBF16() {
	f := narrow("BF16")
	quiet, half, one := constant32(quietBit), constant32(0x7fff), constant32(1)
	Label("loop")
	TESTQ(f.n, f.n)
	JZ(LabelRef("done"))
	var out [2]reg.VecVirtual
	for j := range 2 {
		w, up := YMM(), YMM()
		VMOVDQU(Mem{Base: f.src, Disp: 32 * j}, w)
		f.watch(w)
		VPSRLD(U8(16), w, up)
		VPAND(one, up, up)
		VPADDD(half, up, up)
		nan := quieten(w, quiet)
		VPANDN(up, nan, up) // rounding could carry a NaN over into a number
		VPADDD(up, w, w)
		VPSRLD(U8(16), w, w)
		out[j] = w
	}
	packed := YMM()
	VPACKUSDW(out[1], out[0], packed)
	VPERMQ(U8(0xd8), packed, packed)
	VMOVDQU(packed, Mem{Base: f.dst})
	ADDQ(U8(32), f.dst)
	ADDQ(U8(64), f.src)
	SUBQ(U8(16), f.n)
	JMP(LabelRef("loop"))
	f.end()
}

func narrowF16() {
	f := narrow("F16")
	Label("loop")
	TESTQ(f.n, f.n)
	JZ(LabelRef("done"))
	for j := range 2 {
		w := YMM()
		VMOVUPS(Mem{Base: f.src, Disp: 32 * j}, w)
		f.watch(w)
		VCVTPS2PH(U8(0), w, Mem{Base: f.dst, Disp: 16 * j})
	}
	ADDQ(U8(32), f.dst)
	ADDQ(U8(64), f.src)
	SUBQ(U8(16), f.n)
	JMP(LabelRef("loop"))
	f.end()
}
