package safetensors

import (
	"context"

	"github.com/seed-b982eded/graft/formats"
	"github.com/seed-b982eded/graft/formats/publish"
)

// WriteOptions of [Write]. The zero value is good.
type WriteOptions = publish.BlockOptions

// Write streams a shard into the file at path, which is created or overwritten: it
// should lie in a staging place. See [publish.WriteFile] for how, and for errors.
func Write(ctx context.Context, path string, s formats.Shard, opts WriteOptions) error {
	parts, err := Parts(s)
	if err != nil {
		return formats.Outputf(path, err, "")
	}
	return publish.WriteFile(ctx, path, parts, opts)
}

// Parts returns what the file of a shard is made of: the header, and the tensors.
func Parts(s formats.Shard) ([]publish.Part, error) {
	head, err := encodeHeader(s)
	if err != nil {
		return nil, err
	}
	parts := make([]publish.Part, 1, 1+len(s.Tensors))
	parts[0].Literal = head
	for _, t := range s.Tensors {
		parts = append(parts, publish.Part{Tensor: t})
	}
	return parts, nil
}

// EncodedSize returns the size in bytes of the file that [Write] makes of a shard.
func EncodedSize(s formats.Shard) (int64, error) {
	h, err := encodeHeader(s)
	return int64(len(h)) + s.Size(), err
}
