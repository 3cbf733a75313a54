"""Where the scalars of searches and trainings go beside their folders: TensorBoard, Weights & Biases, MLflow. No torch at import."""
