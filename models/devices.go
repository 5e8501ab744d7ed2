package models

import (
	"fmt"

	"github.com/gomlx/compute/distributed"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/gomlx/gomlx/core/tensors/dtensor"
	"github.com/gomlx/gomlx/ml/model"
)

// sharding splits the arguments of a step over devices.
type sharding struct{ split, whole *distributed.ShardingSpec }

// UseDevices spreads the steps over n devices of the backend, each of which gets an equal part of the batch. The graph stays that of the whole batch, which the
// compiler partitions: BatchNorm's statistics and the gradients are those of the whole batch, and only roundings differ. It is called before the first step.
func (t *Trainer) UseDevices(n int) error {
	if n < 1 || n > t.backend.NumDevices() || t.Recipe.Batch%n != 0 {
		return fmt.Errorf("training %s on %d devices: the backend %s has %d, and a batch of %d must split evenly", t.Recipe.Net, n, t.backend.Name(), t.backend.NumDevices(), t.Recipe.Batch)
	}
	if n == 1 {
		return nil
	}
	mesh, err := distributed.NewDeviceMesh([]int{n}, []string{"batch"})
	if err != nil {
		return fmt.Errorf("training %s on %d devices: %w", t.Recipe.Net, n, err)
	}
	s := &sharding{whole: distributed.NewReplicatedShardingSpec(mesh)}
	if s.split, err = distributed.BuildSpec(mesh).S("batch").Done(); err != nil {
		return fmt.Errorf("training %s on %d devices: %w", t.Recipe.Net, n, err)
	}
	for _, e := range []*model.Exec{t.exec, t.frozen} {
		e.AutoSharding(mesh).WithInputShardingSpecs(s.split, s.split, s.split, s.whole).WithOutputShardingSpecs(s.whole)
	}
	t.sharding = s
	return nil
}

// call makes a step and frees its arguments, of which the last, the learning rate, goes to every device whole.
func (t *Trainer) call(exec *model.Exec, in []*tensors.Tensor) ([]*tensors.Tensor, error) {
	var args []any
	last := len(in) - 1
	defer func() {
		for _, v := range in {
			v.MustFinalizeAll()
		}
	}()
	for i, v := range in {
		if t.sharding == nil {
			args = append(args, v)
			continue
		}
		spec := t.sharding.split
		if i == last {
			spec = t.sharding.whole
		}
		d, err := dtensor.ShardTensor(spec, v)
		if err != nil {
			return nil, fmt.Errorf("splitting argument %d: %w", i, err)
		}
		in, args = append(in, d.Shards()...), append(args, d)
	}
	return exec.Call(args...)
}
