package carso

import (
	"fmt"
	"testing"

	"carsokit/internal/goldentest"
	"carsokit/internal/nn"
	"carsokit/models"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/ml/model"
)

// The work that is computed from shapes is that of the graphs, at both image sizes; of a small one it is worked out by hand, too.
func TestWork(t *testing.T) {
	be := goldentest.Backend(t)
	strided := models.TinyImageNetWRN(10, 1)
	strided.Stride = 2
	for _, c := range []Config{
		{Base: models.CIFAR10WRN(10, 1), Final: models.CIFAR10WRN(16, 1), Cond: 16, Latent: 8, Channels: 16},
		{Base: models.TinyImageNetWRN(10, 1), Final: models.TinyImageNetWRN(10, 1), Cond: 24, Latent: 8, Channels: 8},
		{Base: models.CIFAR10WRN(10, 1), Final: models.CIFAR10WRN(10, 1), Cond: 16, Latent: 8, Channels: 16, Direct: true, Taps: []string{"layer.0.block.0.conv_1"}},
		{Base: models.CIFAR10WRN(10, 2), Final: models.CIFAR10WRN(10, 1), Cond: 16, Latent: 8, Channels: 16, Spatial: true, Direct: true},
		{Base: models.TinyImageNetWRN(10, 1), Final: models.TinyImageNetWRN(10, 1), Cond: 24, Latent: 8, Channels: 8, Spatial: true},
		{Base: strided, Final: strided, Cond: 24, Latent: 8, Channels: 8, Taps: []string{"layer.0.block.0.conv_1"}},
	} {
		store := model.NewStore()
		create := func(scope string, ps []nn.Param) {
			if err := nn.Create(store.Scope(scope), ps, 1, true); err != nil {
				t.Fatal(err)
			}
		}
		create(baseScope, c.Base.Params())
		create(finalScope, c.Final.Params())
		for _, p := range c.Parts() {
			create("/"+p.Name, p.Params)
		}
		d, err := NewDefence(store, c, 1, LogSum)
		if err != nil {
			t.Fatal(err)
		}
		g := graph.NewGraph(be, "work")
		inputs := 0
		condition, sample, gradient := workGraph(d, g, func(dims ...int) *graph.Node {
			inputs++
			return graph.Parameter(g, fmt.Sprintf("input%d", inputs), shapes.Make(dtypes.Float32, dims...))
		})
		g.Finalize()
		a, b := c.Work()
		if a.FLOPs != condition || b.FLOPs != sample {
			t.Errorf("%s: %d to the condition and %d a sample, its graph has %d and %d", c.Base, a.FLOPs, b.FLOPs, condition, sample)
		}
		// Backwards a layer costs what it does forwards; a strided one more, since GoMLX multiplies by the zeros between its pixels, too.
		if times := float64(gradient) / float64(condition+sample); times < 2 || times > 2.6 {
			t.Errorf("%s: with gradient %.2f times a forward pass", c.Base, times)
		}
	}

	// The first of them, layer by layer.
	c := Config{Base: models.CIFAR10WRN(10, 1), Final: models.CIFAR10WRN(16, 1), Cond: 16, Latent: 8, Channels: 16}
	const (
		compressors = 2 * 9 * (2*(16*8*30*30+8*4*28*28+4*2*26*26) + 3*(32*16*14*14+16*8*12*12+8*4*10*10) + 3*(64*32*6*6+32*16*4*4+16*8*2*2))
		linear      = 2 * 16 * (2*2*26*26 + 3*4*10*10 + 3*8*2*2)
		decoder     = 2*24*16*3*3 + 2*4*4*(16*16*3*3+16*8*5*5+8*4*9*9+4*2*17*17) + 2*4*2*3*32*32 // 2x2 kernels to four times the channels
		values      = 16*3*3 + 4*(16*3*3+8*5*5+4*9*9+2*17*17) + 3*32*32
	)
	condition, sample := c.Work()
	if want := c.Base.WorkTo("").FLOPs + compressors + linear; condition.FLOPs != want {
		t.Errorf("to the condition %d, want %d", condition.FLOPs, want)
	}
	if want := c.Final.Work().Add(models.Work{FLOPs: decoder, Values: values}); sample != want {
		t.Errorf("a sample %+v, want %+v", sample, want)
	}
}
