"""Fine-tuning: how well a video network that learnt without labels learns the classes of a collection that has them."""
