package strictjson

import (
	"bufio"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestPythonFloat compares with what CPython wrote: each line of the file is a float64's
// bits in hex and its repr.
func TestPythonFloat(t *testing.T) {
	f, err := os.Open("testdata/python_floats.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := 0
	for s := bufio.NewScanner(f); s.Scan(); lines++ {
		hex, want, _ := strings.Cut(s.Text(), " ")
		bits, err := strconv.ParseUint(hex, 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		if got := PythonFloat(math.Float64frombits(bits)); got != want {
			t.Errorf("%s: got %s, want %s", hex, got, want)
		}
	}
	if lines < 900 {
		t.Errorf("only %d lines", lines)
	}
}

// TestAppendIndentedLikePython has texts that json.dumps(v, indent=2) wrote.
func TestAppendIndentedLikePython(t *testing.T) {
	o := &Object{}
	o.Set("name", "modèle \"q\" \\ <&> / 語 😀 \x00\x1f\x7f\b\f\n\r\t")
	o.Set("empty", []any{&Object{}, []any{}, []string{}, nil, true, false})
	o.Set("numbers", []any{int64(-3), 0.5, 2.0, 1e16, Number("1E5")})
	o.Set("names", []string{"a", "b"})
	const want = `{
  "name": "mod\u00e8le \"q\" \\ <&> / \u8a9e \ud83d\ude00 \u0000\u001f\u007f\b\f\n\r\t",
  "empty": [
    {},
    [],
    [],
    null,
    true,
    false
  ],
  "numbers": [
    -3,
    0.5,
    2.0,
    1e+16,
    1E5
  ],
  "names": [
    "a",
    "b"
  ]
}`
	if got := string(AppendIndented([]byte("x"), o)); got != "x"+want {
		t.Errorf("got %s", got)
	}
}
