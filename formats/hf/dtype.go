package hf

import (
	"bytes"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/internal/strictjson"
)

var torchNames = map[formats.DType]string{
	formats.F64: "float64", formats.F32: "float32", formats.F16: "float16", formats.BF16: "bfloat16",
}

// WithDType returns a checkpoint whose config.json says that the weights have a dtype,
// wherever it says so: "dtype" and "torch_dtype", at the top and in the configs of
// parts. Everything else of the file stays as it is, but for the layout that
// transformers gives it anyway. Without a config.json it returns c.
func WithDType(c *formats.Checkpoint, dtype formats.DType) (*formats.Checkpoint, error) {
	if _, ok := c.SideFile("config.json"); !ok {
		return c, nil
	}
	text, err := c.ReadSideFile("config.json", formats.MaxConfigBytes)
	if err != nil {
		return nil, err
	}
	doc, err := strictjson.ParseObject(text, formats.MaxJSONDepth)
	if err != nil {
		return nil, formats.Rejectf(c.Path(), "", "config.json: %v", err)
	}
	if !setDType(doc, torchNames[dtype]) {
		return c, nil
	}
	text = append(strictjson.AppendIndented(nil, doc), '\n')
	return c.WithSideFile(formats.SideFile{Name: "config.json", Size: int64(len(text)), Data: bytes.NewReader(text)}), nil
}

// setDType sets every dtype member that is there, and reports whether one changed.
func setDType(o *strictjson.Object, name string) (changed bool) {
	for _, key := range o.Keys {
		switch v := o.Values[key].(type) {
		case string:
			if (key == "dtype" || key == "torch_dtype") && v != name {
				o.Values[key] = name
				changed = true
			}
		case *strictjson.Object:
			changed = setDType(v, name) || changed
		}
	}
	return changed
}
