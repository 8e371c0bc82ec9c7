package hf

import (
	"testing"

	"github.com/seed-b982eded/graft/formats"
)

// TestWithDType changes what the config says of the dtype and nothing else.
func TestWithDType(t *testing.T) {
	c, err := Open("../../testdata/odd-llama")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	before, err := c.ReadSideFile("config.json", formats.MaxConfigBytes)
	if err != nil {
		t.Fatal(err)
	}
	same, err := WithDType(c, formats.BF16)
	if err != nil || same != c {
		t.Errorf("BF16 already: got another checkpoint, %v", err)
	}
	wide, err := WithDType(c, formats.F32)
	if err != nil {
		t.Fatal(err)
	}
	back, err := WithDType(wide, formats.BF16)
	if err != nil {
		t.Fatal(err)
	}
	after, err := back.ReadSideFile("config.json", formats.MaxConfigBytes)
	if err != nil {
		t.Fatal(err)
	}
	if string(after) != string(before) {
		t.Errorf("there and back:\n%s\nwant\n%s", after, before)
	}
	text, err := wide.ReadSideFile("config.json", formats.MaxConfigBytes)
	if err != nil {
		t.Fatal(err)
	}
	if len(text) != len(before)-1 { // "bfloat16" and "float32"
		t.Errorf("got %d bytes of %d:\n%s", len(text), len(before), text)
	}
}
