"""Attribution fidelity: does the map point at what the classifier uses?"""
