"""The processes of a run over ``torch.distributed``, and batch norms that span them."""
